"""Error rates of boxes: ILSVRC's by slow loops, any instance of the class, what is None; evaluation and tuning."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from boxed_fakes import CLASSES, FakeBoxed, boxed_images, by_hand, made_up, make_classifier, make_localiser
from verydeep.errors import UserError
from verydeep.localisation.boxes import iou
from verydeep.localisation.evaluate import compute_boxes, evaluate_localiser
from verydeep.localisation.metrics import best_overlaps, overlap_counts, wrong_boxes
from verydeep.localisation.tune import THRESHOLDS, tune
from verydeep.testing.evaluate import evaluate


def test_any_object_of_the_class_counts():
    box = np.array([[0.0, 0, 10, 10], [0, 0, 10, 10]])
    objects = [np.array([[50.0, 50, 60, 60], [0, 0, 10, 9]]), np.array([[0.0, 0, 5, 10]])]
    assert best_overlaps(box, objects).tolist() == pytest.approx([0.9, 0.5])


def slow_error(result, top):
    wrong = 0
    for row, label in enumerate(result.labels):
        answers = zip(result.ranked[row][:top], result.ranked_boxes[row][:top], strict=True)
        right = [
            named == label and max(iou(box[None], one[None])[0, 0] for one in result.objects[row]) > 0.5
            for named, box in answers
        ]
        wrong += not any(right)
    return wrong / len(result.labels)


def test_errors_are_those_of_a_slow_loop():
    result = made_up()
    assert result.top1_localisation_error == slow_error(result, 1)
    assert result.top5_localisation_error == slow_error(result, 5)
    by_loop = [max(iou(box[None], one)[0]) > 0.5 for box, one in zip(result.boxes, result.objects, strict=True)]
    assert result.localisation_error == pytest.approx(1 - np.mean(by_loop))
    assert 0 < result.top5_localisation_error < result.top1_localisation_error < 1
    assert result.top1_error < result.top1_localisation_error
    assert np.array_equal(result.wrong(5), wrong_boxes(result.ranked, result.ranked_ious, result.labels, 5))
    classes = result.class_errors()
    share = [(result.labels == index).mean() * classes[name] for index, name in enumerate(result.classes)]
    assert sum(share) == pytest.approx(result.localisation_error)


def test_records_have_the_keys_of_the_command_line():
    record = made_up().as_record()
    promised = {"localisation_error", "top1_localisation_error", "top5_localisation_error", "num_images", "split"}
    assert promised | {"protocol", "interval95"} <= set(record)
    assert record["interval95"][0] < record["localisation_error"] < record["interval95"][1]
    centre = made_up(top=0).as_record()
    assert "top1_localisation_error" not in centre
    assert "localisation_error=" in repr(made_up())
    few = made_up(classes=3, top=3)
    assert few.top5_localisation_error is None
    assert few.as_record()["top5_localisation_error"] is None
    assert few.top1_localisation_error == slow_error(few, 1)


def test_the_distribution_of_the_iou_divides_where_a_box_becomes_right():
    counts = overlap_counts(np.array([0.0, 0.05, 0.5, 0.5000001, 1.0, 0.3]))
    assert counts.sum() == 6
    assert counts[:10].sum() == 4  # up to 0.5, which is wrong
    assert (counts[0], counts[5], counts[9], counts[10], counts[19]) == (2, 1, 1, 1, 1)


@pytest.mark.parametrize("regression", ["scr", "pcr"])
def test_evaluation_compares_the_boxes_with_the_objects(regression):
    localiser, classifier, data = make_localiser(regression, test_scales=(96,)), make_classifier(), boxed_images()
    result = evaluate_localiser(localiser, data, protocol="full", classifier=classifier)
    assert (result.test_scales, result.protocol, result.merge_threshold) == ((96,), "full", 0.5)
    for index, label in enumerate(data.images.labels):
        best, posteriors = by_hand(localiser, classifier, data.images.pixels(index), (96,))
        np.testing.assert_allclose(result.boxes[index], best[CLASSES[label]], atol=0.05)
        ranked = sorted(CLASSES, key=lambda name: -posteriors[name])[:5]
        assert [CLASSES[number] for number in result.ranked[index]] == ranked
        for box, name in zip(result.ranked_boxes[index], ranked, strict=True):
            np.testing.assert_allclose(box, best[name], atol=0.05)
    assert result.top5_localisation_error == slow_error(result, 5)
    single = evaluate(classifier, data.images, protocol="single", test_scales=(96,))
    np.testing.assert_allclose(result.posteriors, single.posteriors, atol=1e-5)
    given = evaluate_localiser(localiser, data, protocol="full", classifier=classifier, classification=single)
    assert np.array_equal(given.ranked, result.ranked)


def test_the_central_crop_needs_no_classifier():
    result = evaluate_localiser(make_localiser(), boxed_images())
    assert result.protocol == "centre"
    assert result.ranked.shape == (6, 0)
    assert result.top1_localisation_error is None
    assert result.top1_error is None


def test_one_class_needs_no_classifier():
    localiser, data = make_localiser("scr", classes=("thing",)), boxed_images(classes=("thing",))
    result = evaluate_localiser(localiser, data, protocol="full")
    assert result.ranked.tolist() == [[0]] * 6
    assert result.top1_localisation_error == result.localisation_error
    assert result.top5_localisation_error is None


def test_posteriors_of_other_images_are_refused():
    single = evaluate(make_classifier(), boxed_images(4).images)
    with pytest.raises(UserError, match="of other images or classes"):
        evaluate_localiser(
            make_localiser(), boxed_images(), protocol="full", classifier=make_classifier(), classification=single
        )


def test_several_are_united():
    several = [make_localiser(seed=1, test_scales=(64,)), make_localiser(seed=2, test_scales=(96,))]
    result = evaluate_localiser(several, boxed_images(), protocol="full", classifier=make_classifier())
    assert result.test_scales == (64, 96)
    assert len(result.models) == 2


def test_tuning_finds_the_threshold_and_the_scales_of_the_lowest_error():
    localiser, classifier, data = make_localiser(), make_classifier(), boxed_images(9)
    localiser.net.train_scale = (96, 96)
    ours = compute_boxes([localiser], data, test_scales=(87, 96, 105), classifier=classifier)
    # objects where one of the answers lies: there is something to find
    boxes = ours.result(0.9, (96, 105)).boxes
    data = FakeBoxed(data.images, [box[None] for box in boxes])
    tuned = tune(localiser, data, classifier=classifier)
    assert len(tuned.trials) == 4 * len(THRESHOLDS)
    assert {trial.test_scales for trial in tuned.trials} == {(96,), (87, 96), (96, 105), (87, 96, 105)}
    assert tuned.best.localisation_error == min(trial.localisation_error for trial in tuned.trials)
    alike = [one for one in tuned.trials if one.localisation_error == tuned.best.localisation_error]
    assert len(tuned.best.test_scales) == min(len(one.test_scales) for one in alike)
    for trial in tuned.trials[::13]:
        result = evaluate_localiser(
            localiser,
            data,
            protocol="full",
            classifier=classifier,
            test_scales=trial.test_scales,
            merge_threshold=trial.merge_threshold,
        )
        assert trial.localisation_error == result.localisation_error
        assert trial.mean_iou == pytest.approx(result.ious.mean(), abs=1e-3)
    fixed = tune(localiser, data, classifier=classifier, test_scales=(96, 105))
    assert {trial.test_scales for trial in fixed.trials} == {(96, 105)}
    assert fixed.as_record()["selected_on"] == "val"


@pytest.mark.slow
def test_two_processes_find_what_one_finds(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from boxed_fakes import boxed_images, make_classifier, make_localiser\n"
        "from verydeep.distributed import process_group\n"
        "from verydeep.localisation.evaluate import evaluate_localiser\n"
        "with process_group('cpu') as members:\n"
        "    how = {'protocol': 'full', 'classifier': make_classifier(), 'test_scales': (64, 96)}\n"
        "    result = evaluate_localiser(make_localiser(), boxed_images(5), **how)\n"
        "    print(members.rank, result.boxes.round(3).tolist(), result.ranked.tolist())\n"
    )
    tests = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent / "src")])}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    lines = sorted(line for line in said.splitlines() if line[:2] in ("0 ", "1 "))
    result = evaluate_localiser(
        make_localiser(), boxed_images(5), protocol="full", classifier=make_classifier(), test_scales=(64, 96)
    )
    expected = f"{result.boxes.round(3).tolist()} {result.ranked.tolist()}"
    assert lines == [f"0 {expected}", f"1 {expected}"]
