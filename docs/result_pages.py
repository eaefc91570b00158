"""The results of the repository as they stand on a page, drawn from their JSON lines."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from verydeep.tables.claims import check_claims
from verydeep.tables.layout import TableLayout, lay_out, lay_out_claims
from verydeep.tables.rows import read_results

RESULTS = Path(__file__).parents[1] / "results"


def result_tables(name: str) -> str:
    """Every table that the results of this name have, and what they say of the paper's claims, in Markdown.

    Raises:
        UserError: there are none.
    """
    results = read_results(RESULTS / f"{name}.jsonl")
    about = results.about
    parts = [
        f"{about['contents']}; errors in per cent of the {about['num_images']:,} {about['split']} images, mean ± "
        f"standard deviation over the seeds. {about['seconds'] / 3600:.1f} hours.",
        f"```console\n{about['command']}\n```",
        *(f"{remark[:1].upper()}{remark[1:]}." for remark in about["remarks"]),
        *map(_in_markdown, lay_out(results)),
    ]
    if claims := check_claims(results.cells):
        parts.append(_in_markdown(lay_out_claims(claims)))
    return "\n\n".join(parts)


def _in_markdown(laid: TableLayout) -> str:
    line = [":---" if number < laid.first_number else "---:" for number in range(len(laid.columns))]
    return f"**{laid.title}**: {laid.caption}.\n\n{_table([laid.columns, line, *laid.rows])}"


def _table(lines: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
