"""The page of a localiser's training.

Paper: appendix A.
"""

from verydeep.data.boxes.boxed import BoxedSet
from verydeep.data.dataset import describe
from verydeep.localisation.evaluate import evaluate_localiser
from verydeep.localisation.localiser import Localiser
from verydeep.localisation.report import write_localisation_report
from verydeep.localisation.tables import tables_of
from verydeep.nets.net import VeryDeep
from verydeep.report.pages import REPORT_FILE, sections_of_log
from verydeep.training.run_folder import Run


def write_page_of_boxes(run: Run, net: VeryDeep, boxed: BoxedSet) -> None:
    """Writes the report of a run that has ended, with the boxes of its validation images."""
    settings, localiser = run.settings, Localiser(net)
    result = evaluate_localiser(localiser, boxed.val, device=settings["choice"]["device"])
    kind = "fc" if settings["recipe"]["trainable"] == "fc" else "all", localiser.regression
    computed = settings["choice"] | {"seed": settings["seed"]} | settings["environment"] | {"began": settings["began"]}
    write_localisation_report(
        run.folder / REPORT_FILE,
        result,
        boxed.val,
        title=f"Boxes: {net.geometry.title} on {boxed.name}",
        tables=tables_of(boxed.name, net.geometry.crop, {kind: result}, {}),
        commands=[settings["command"]] if settings["command"] else [],
        facts={
            "The data": {"contents": describe(boxed.as_data_set())},
            "The recipe": settings["recipe"],
            "How it was trained": computed,
        },
        of_training=sections_of_log(run.log_records()),
        pictures=run.pictures,
    )
