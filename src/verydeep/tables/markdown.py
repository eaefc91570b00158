"""The tables and the claims in Markdown, as the published pages have them.

Paper: Tables 3 to 6.
"""

from collections.abc import Iterable, Sequence

from verydeep.report.pages import sentence
from verydeep.tables.layout import TableLayout, lay_out, lay_out_claims
from verydeep.tables.rows import TableResults
from verydeep.tables.verdicts import ClaimResult


def results_in_markdown(results: TableResults, claims: Sequence[ClaimResult]) -> str:
    """Every table that the results have, and what they say of the paper's claims."""
    about = results.about
    parts = [
        f"{about['contents']}; errors in per cent of the {about['num_images']:,} {about['split']} images, mean ± "
        "standard deviation over the seeds.",
        f"```console\n{about['command']}\n```",
        *map(sentence, results.remarks),
        *map(_laid_in_markdown, lay_out(results)),
    ]
    parts += map(_laid_in_markdown, lay_out_claims(claims))
    return "\n\n".join(parts)


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], first_number: int | None = None) -> str:
    """A table in Markdown; columns from first_number on are aligned to the right."""
    right = len(head) if first_number is None else first_number
    line = [":---" if number < right else "---:" for number in range(len(head))]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in [head, line, *rows])


def _laid_in_markdown(laid: TableLayout) -> str:
    return f"**{laid.title}**: {laid.caption}.\n\n{markdown_table(laid.columns, laid.rows, laid.first_number)}"
