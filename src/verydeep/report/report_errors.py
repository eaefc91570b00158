"""What a report tells of the errors: by class, as a confusion matrix, and the worst mistakes as pictures."""

from collections.abc import Sequence
from html import escape

from verydeep.evaluation.result import Result
from verydeep.report.charts import confusion, error_bar
from verydeep.report.class_errors import MOST_CLASSES, ClassError, class_errors, confusion_counts
from verydeep.report.heatmap import colour_table
from verydeep.report.worst import Mistake


def percent(fraction: float) -> str:
    """A fraction as a person reads it."""
    return f"{100 * fraction:.2f}%"


def errors_by_class(result: Result) -> str:
    """The classes in a table, the worst first, each with its interval and what it is taken for."""
    errors = class_errors(result)
    shown = errors[:MOST_CLASSES]
    highest = max(each.interval[1] for each in shown)
    columns = (
        ("", "class"), ("number", "images"), ("number", "error"), ("", ""), ("", "95% interval"),
        ("", "most often taken for"),
    )  # fmt: skip
    head = "".join(f'<th class="{kind}">{name}</th>' for kind, name in columns)
    rows = "".join(_class_row(each, highest) for each in shown)
    return (
        f'<p class="soft">{_which(len(shown), len(errors))}, the worst first.</p>'
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _which(shown: int, there_are: int) -> str:
    return "All classes" if shown == there_are else f"The worst {shown} of {there_are:,} classes"


def _class_row(each: ClassError, highest: float) -> str:
    low, high = each.interval
    taken = f"{escape(each.taken_for)} ({each.times})" if each.taken_for is not None else '<span class="soft">-</span>'
    return (
        f'<tr><td>{escape(each.name)}</td><td class="number">{each.num_images:,}</td>'
        f'<td class="number">{100 * each.error:.1f}%</td><td>{error_bar(each.error, each.interval, highest)}</td>'
        f'<td class="soft">{100 * low:.1f} to {100 * high:.1f}%</td><td>{taken}</td></tr>'
    )


def confusion_matrix(result: Result) -> str:
    """What the images of each class are taken for; of many classes, the worst."""
    errors = class_errors(result)
    indices = sorted(each.index for each in errors[:MOST_CLASSES])
    counts = confusion_counts(result, indices)
    names = [result.classes[index] for index in indices]
    columns = [*names, "any other class"] if counts[:, -1].any() else names
    return (
        f'<p class="soft">{_which(len(indices), len(errors))}: a row for each true class, a column for what its images '
        "were taken for. Numbers are images; the larger their share of the row, the stronger the colour.</p>"
        f'<div class="wide">{confusion(names, columns, counts[:, : len(columns)])}</div>'
    )


def pictures(mistakes: Sequence[Mistake]) -> str:
    """The worst mistakes, each with the score map of the class it is taken for; empty where there are none."""
    if not mistakes:
        return ""
    stops = ", ".join(f"rgb({r} {g} {b})" for r, g, b in colour_table()[::51].tolist())
    maps = (
        " Beside each is where the net sees the class it names: its score map, from low "
        f'<span class="scale" style="background: linear-gradient(90deg, {stops})"></span> to high.'
        if any(mistake.map for mistake in mistakes)
        else ""
    )
    number = f"{len(mistakes)} images" if len(mistakes) > 1 else "image"
    return (
        f'<p class="soft">The {number} that the net gets wrong with the most confidence, with the posteriors of the '
        f'true class and of the one it names.{maps}</p><div class="pictures">{"".join(map(_figure, mistakes))}</div>'
    )


def _figure(mistake: Mistake) -> str:
    alt = escape(f"{mistake.name}: {mistake.true}, taken for {mistake.taken_for}")
    second = f'<img src="{mistake.map}" alt="Score map of {escape(mistake.taken_for)}">' if mistake.map else ""
    return (
        f'<figure><div class="{"both" if second else "one"}"><img src="{mistake.picture}" alt="{alt}">{second}</div>'
        f"<figcaption><b>{escape(mistake.true)}</b> ({percent(mistake.true_posterior)}) taken for "
        f"<b>{escape(mistake.taken_for)}</b> ({percent(mistake.posterior)})"
        f'<br><span class="soft">{escape(mistake.name)}</span></figcaption></figure>'
    )
