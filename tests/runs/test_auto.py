"""The rules of the recipe auto."""

from dataclasses import replace

import pytest

from verydeep.errors import UsageError
from verydeep.nets.architecture import feature_macs
from verydeep.nets.net import VeryDeep
from verydeep.runs.auto import SHARE_OF_TIME, Costs, block_macs, choose_batch_size, expected_error, make_plan, map_bytes
from verydeep.runs.plan import Look, Plan

GEOMETRY = VeryDeep("D", initialisation=None, features_only=True).geometry
CLOTHING = Look(
    num_train=3068, num_val=341, num_classes=10, side=256, mirror=True, forward=(0.0025, 0.0156),
    update=(0.0014, 0.0085), update_fixed=0.01, classifier_seconds=10, seconds_used=8, free_bytes=20 * 2**30,
    image_bytes=6 * 2**28, length=100,
)  # fmt: skip


def slower(factor):
    forward, update = (tuple(factor * seconds for seconds in pair) for pair in (CLOTHING.forward, CLOTHING.update))
    return replace(CLOTHING, forward=forward, update=update, update_fixed=factor * CLOTHING.update_fixed)


def plan(look=CLOTHING, minutes=10.0, **pinned):
    return make_plan(GEOMETRY, "vgg16-features", look, seconds=60 * minutes, pinned=pinned)


def test_the_costs_are_those_of_the_layers():
    assert block_macs(GEOMETRY, 160) == feature_macs(GEOMETRY, 160, 160)
    last = 3 * 9 * 512 * 512 * 10 * 10
    assert block_macs(GEOMETRY, 160, 5) == pytest.approx(last)
    assert map_bytes(GEOMETRY, 160, 5) == 2 * 512 * 10 * 10
    assert map_bytes(GEOMETRY, 160, 4) == 2 * 256 * 20 * 20


@pytest.mark.parametrize("minutes", [1, 3, 10, 20, 60])
@pytest.mark.parametrize("speed", [0.2, 1, 5])
def test_what_is_planned_fits_into_the_time(minutes, speed):
    look = slower(1 / speed)
    planned = plan(look, minutes)
    if Costs(GEOMETRY, look, 64).linear() < 20 * minutes:  # else not even the smallest views are described in time
        assert planned.expected_seconds <= 60 * minutes


def test_more_time_never_plans_less():
    plans = [plan(minutes=minutes) for minutes in (1, 3, 10, 20, 60)]
    errors = [expected_error(one, CLOTHING) for one in plans]
    assert errors == sorted(errors, reverse=True)
    assert plans[-1].then == "fine-tune"


def test_equal_looks_give_equal_plans_and_a_record_gives_the_plan_again():
    assert plan() == plan()
    assert Plan.from_record(plan().as_record()) == plan()


def test_memory_bounds_what_is_stored():
    tight = plan(replace(CLOTHING, free_bytes=2**30), minutes=60)
    assert tight.then == "fine-tune"
    assert tight.num_views * 3068 * map_bytes(GEOMETRY, tight.side, tight.first_block) <= 0.35 * 2**30
    assert plan(replace(CLOTHING, free_bytes=2**24), minutes=60).share < 1


def test_of_more_images_than_there_is_time_for_a_share_is_used():
    many = plan(replace(CLOTHING, num_train=10**6, classifier_seconds=100), minutes=30)
    assert many.share < 0.3
    assert many.side <= 96
    assert "of each class" in many.reasons[0]
    with pytest.raises(UsageError, match=r"reading 1,000,000 images takes about 20.0 alone: give 60 or more"):
        plan(replace(CLOTHING, num_train=10**6, seconds_used=1200), minutes=10)


def test_small_images_are_enlarged_twofold_at_most():
    assert plan(replace(CLOTHING, side=32), minutes=60).side == 64
    assert plan(replace(CLOTHING, side=100), minutes=60).side == 192


def test_a_view_larger_than_its_image_promises_less_than_a_larger_image():
    plans = [replace(plan(side=128), then=None), replace(plan(side=192), then=None)]
    large, small = ([expected_error(one, replace(CLOTHING, side=side)) for one in plans] for side in (256, 100))
    assert large[1] < small[1] < small[0]
    assert large[0] < small[0]


def test_few_images_are_judged_by_cross_validation_and_trained_in_small_batches():
    few = plan(replace(CLOTHING, num_train=232, num_val=26, classifier_seconds=1))
    assert few.folds == 3
    assert few.changes["batch_size"] == 8
    hasty = plan(replace(CLOTHING, num_train=80, num_val=16, classifier_seconds=1), minutes=0.6)
    assert hasty.then is None
    assert hasty.side >= 160
    assert plan().folds == 0
    assert [choose_batch_size(count) for count in (1, 100, 300, 600, 10**6)] == [8, 8, 16, 32, 32]


def test_what_is_pinned_is_kept():
    pinned = plan(side=64, epochs=3, batch_size=5)
    assert pinned.side == 64
    assert pinned.changes["epochs"] == 3
    assert pinned.changes["batch_size"] == 5


def size_reason(planned):
    return next(reason for reason in planned.reasons if reason.startswith("size"))


def training_reason(planned):
    return planned.reasons[-1]


def test_the_reason_for_a_size_is_true():
    errors_and_sides = {minutes: plan(minutes=minutes) for minutes in (1, 2, 3, 5, 10, 20, 60)}
    said = set()
    for minutes, made in errors_and_sides.items():
        left = SHARE_OF_TIME * 60 * minutes - 8
        larger = [
            plan(minutes=minutes, side=side) for side in (96, 128, 160, 192, 224) if side > made.side
        ]  # the best of each
        fits = [one for one in larger if one.expected_seconds - CLOTHING.seconds_used <= left]
        best = min(fits, key=lambda one: expected_error(one, CLOTHING), default=None)
        if best is None:
            wanted = "the largest for which there is time and memory" if larger else "that of the net's own training"
        elif expected_error(best, CLOTHING) > expected_error(made, CLOTHING):
            wanted = "which promises less"
        else:
            wanted = "promises no fewer errors and takes longer"
        assert size_reason(made).endswith(wanted), minutes
        said.add(wanted)
    assert "which promises less" in said
    assert size_reason(plan(side=64)) == "size: 64 pixels: as asked"
    assert size_reason(plan(replace(CLOTHING, side=50), minutes=60)) == "size: 96 pixels: twice the 50 of the images"


def test_what_fits_nowhere_is_not_called_the_largest_that_fits():
    late = plan(slower(8), minutes=1)
    assert "the smallest, and the time does not quite do for it" in size_reason(late)
    assert training_reason(late) == "training: none: there is not the time and memory for it"


def test_nothing_is_trained_where_larger_views_promise_more():
    hasty = plan(replace(CLOTHING, num_train=80, num_val=16, classifier_seconds=1), minutes=0.6)
    assert training_reason(hasty) == "training: none: within the time it promises less than larger views do"
