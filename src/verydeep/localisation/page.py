"""The page of a localiser's training.

Paper: appendix A.
"""

from typing import Any

from verydeep.data.boxes.boxed import BoxedSet
from verydeep.data.dataset import describe
from verydeep.nets.net import VeryDeep
from verydeep.report.pages import REPORT_FILE, Card, Page, Section, percent, sections_of_log, write_page
from verydeep.testing.metrics import interval95
from verydeep.training.run_folder import Run


def write_page_of_boxes(run: Run, net: VeryDeep, boxed: BoxedSet, result: dict[str, Any]) -> None:
    """Writes the report of a run that has ended."""
    error, count = result["localisation_error"], result["num_images"]
    low, high = interval95(error, count)
    settings = run.settings
    computed = settings["choice"] | {"seed": settings["seed"]} | settings["environment"] | {"began": settings["began"]}
    page = Page(
        title=f"Boxes: {net.geometry.title} on {boxed.name}",
        cards=[
            Card(
                "localisation error",
                percent(error),
                f"given the true class, central crop of {count:,} {result['split']} images; 95% interval "
                f"{100 * low:.2f} to {percent(high)}",
            )
        ],
        remarks=[
            describe(boxed.as_data_set()),
            "A box is right that overlaps an object of the class by more than half: intersection over union above 0.5.",
        ],
        sections=[
            *sections_of_log(run.log_records()),
            Section("The recipe", "facts", settings["recipe"]),
            Section("How it is computed", "facts", computed),
        ],
        footer=f"{settings['command'] or ''}",
    )
    write_page(run.folder / REPORT_FILE, page)
