"""Fusion by hand, and what may not be fused."""

from dataclasses import replace

import numpy as np
import pytest

from verydeep.errors import UserError
from verydeep.evaluation.cost import Cost
from verydeep.evaluation.result import Member, Result, fuse


def make_result(seed, **changes):
    generator = np.random.default_rng(seed)
    labels = np.random.default_rng(99).integers(0, 6, 40)
    member = Member(
        model=f"runs/{seed}",
        architecture="D",
        protocol="single",
        test_scales=(256,),
        cost=Cost(forward_passes=2, macs=10, seconds_per_image=0.25),
    )
    result = Result(
        posteriors=generator.dirichlet(np.ones(6), 40).astype(np.float32),
        labels=labels,
        names=[f"{number}.png" for number in range(40)],
        classes=tuple("abcdef"),
        members=(member,),
        split="val",
        seconds=10.0,
        data="six",
        fingerprint="f",
    )
    return replace(result, **changes)


def test_fusion_is_the_mean_by_hand():
    results = [make_result(seed) for seed in range(3)]
    fused = fuse(results)
    by_hand = [
        [sum(float(result.posteriors[image, k]) for result in results) / 3 for k in range(6)] for image in range(40)
    ]
    assert np.allclose(fused.posteriors, by_hand, atol=1e-7)
    wrong = sum(int(np.argmax(row)) != label for row, label in zip(by_hand, fused.labels, strict=True))
    assert fused.top1_error == pytest.approx(wrong / 40)
    record = fused.as_record()
    assert record["architecture"] == ["D", "D", "D"]
    assert record["protocol"] == "single"
    assert (record["forward_passes"], record["macs"], record["seconds_per_image"]) == (6, 30, 0.75)
    assert fuse(results[:1]) is results[0]


def test_the_cost_of_a_fusion_is_unknown_where_that_of_a_member_is():
    unknown = make_result(1, members=(replace(make_result(1).members[0], cost=None),))
    assert fuse([make_result(0), unknown]).as_record()["macs"] is None


def test_a_fusion_says_what_any_of_its_members_was_selected_on():
    selected = make_result(1, members=(replace(make_result(1).members[0], selected_on="val"),))
    assert fuse([make_result(0), selected]).selected_on == "val"
    assert fuse([make_result(0), make_result(2)]).selected_on is None


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"classes": tuple("abcdfe")}, "different classes: 'e' where the other has 'f'"),
        ({"data": "seven"}, "different data, six and seven"),
        ({"split": "test"}, "different splits, val and test"),
        ({"names": [f"{number}.png" for number in range(1, 41)]}, "'0.png' where the other has '1.png'"),
        ({"names": [f"{number}.png" for number in range(39)]}, "40 and 39"),
        ({"fingerprint": "g"}, "files changed"),
        ({"labels": np.zeros(40, dtype=np.int64)}, "different labels, as of"),
    ],
)
def test_other_images_are_refused_by_name(changes, complaint):
    with pytest.raises(UserError, match=complaint):
        fuse([make_result(0), make_result(1, **changes)])


def test_class_errors_add_up():
    result = make_result(0)
    counts = result.class_counts()
    total = sum((error or 0) * counts[name] for name, error in result.class_errors().items())
    assert total / 40 == pytest.approx(result.top1_error)
    assert replace(result, labels=np.zeros(40, dtype=np.int64)).class_errors()["b"] is None
