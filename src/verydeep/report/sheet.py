"""A sheet of pictures in rows, each with a line below it."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

Cell = tuple[Image.Image | None, str]
"""A picture, or None where it is not at hand, and the line below it."""

_SIDE, _GAP, _LINE = 144, 8, 16
_FRAME, _NONE = (0, 90, 160), (220, 220, 220)


def picture_sheet(rows: Sequence[Sequence[Cell]]) -> Image.Image:
    """Draws rows of pictures; the first of each row, which the others belong to, has a frame."""
    step = (_SIDE + _GAP, _SIDE + _LINE + _GAP)
    columns = max(map(len, rows))
    sheet = Image.new("RGB", (columns * step[0] + _GAP, len(rows) * step[1] + _GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for y, row in enumerate(rows):
        for x, (picture, line) in enumerate(row):
            left, top = _GAP + x * step[0], _GAP + y * step[1]
            if picture is None:
                draw.rectangle((left, top, left + _SIDE - 1, top + _SIDE - 1), fill=_NONE)
            else:
                small = picture.copy()
                small.thumbnail((_SIDE, _SIDE))
                sheet.paste(small, (left + (_SIDE - small.width) // 2, top + (_SIDE - small.height) // 2))
            if x == 0:
                draw.rectangle((left - 3, top - 3, left + _SIDE + 2, top + _SIDE + 2), outline=_FRAME, width=2)
            draw.text((left, top + _SIDE + 3), _fitting(line, font), fill="black", font=font)
    return sheet


def _fitting(line: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Shortens a line in its middle until it fits below a picture."""
    text = "".join(character if character.isprintable() else "?" for character in line)
    shown, kept = text, len(text)
    while kept > 4 and font.getlength(shown) > _SIDE:
        kept -= 1
        shown = f"{text[: kept // 2]}…{text[len(text) - (kept - kept // 2) :]}"
    return shown
