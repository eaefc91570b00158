"""Draws boxes with their names and scores on pictures.

Paper: appendix A.
"""

from collections.abc import Sequence
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from verydeep.localisation.predict import LocalisedObject

_COLOURS: Final = ((0, 90, 160), (200, 60, 0), (0, 130, 60), (140, 30, 140), (150, 110, 0))


def draw_objects(image: Image.Image, objects: Sequence[LocalisedObject]) -> Image.Image:
    """Returns a copy of an image with the box of each object, the first one on top, its name and its score."""
    drawn = image.convert("RGB")
    draw = ImageDraw.Draw(drawn)
    side = max(drawn.size)
    line, font = max(2, side // 200), ImageFont.load_default(max(11, side // 40))
    for rank in reversed(range(len(objects))):
        found, colour = objects[rank], _COLOURS[rank % len(_COLOURS)]
        left, top, right, bottom = found.box
        corners = (left, top, max(left, right - 1), max(top, bottom - 1))
        draw.rectangle(corners, outline=colour, width=line)
        text = _shown(f"{found.name} {found.score:.2f}")
        width, height = draw.textbbox((0, 0), text, font=font)[2:]
        above = top - height - 2 * line
        y = above if above >= 0 else min(top + line, drawn.height - height - 2)
        x = max(0, min(left, drawn.width - width - 2 * line))
        draw.rectangle((x, y, x + width + 2 * line, y + height + line), fill=colour)
        draw.text((x + line, y), text, fill="white", font=font)
    return drawn


def _shown(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
