"""Test scales of the tables: every net at the same Q, and how much of an image is seen."""

import pytest
from test_rows import net

from conftest import picture
from verydeep.errors import UsageError
from verydeep.tables.grid import TablesOptions
from verydeep.tables.layout import lay_out
from verydeep.tables.make import Tables
from verydeep.tables.protocols import forward_passes, list_tests
from verydeep.tables.rows import read_results
from verydeep.testing.evaluate import evaluate, evaluate_each
from verydeep.testing.protocols import PROTOCOLS, ProtocolAt


def planned(one, *scales, **options):
    return list_tests(one, TablesOptions(test_scales=scales, **options))


def names_of(tests):
    return [(test.protocol.name, test.scales) for test in tests]


def test_without_test_scales_q_goes_by_s():
    assert names_of(planned(net(scale=(256, 512)))) == [
        ("centre", (384,)),
        ("single", (384,)),
        ("multi-scale", (256, 384, 512)),
        ("multi-crop", (256, 384, 512)),
        ("dense+multi-crop", (256, 384, 512)),
    ]
    assert names_of(planned(net(scale=(73, 73), crop=64))) == [
        ("centre", (73,)),
        ("single", (73,)),
        ("multi-scale", (64, 73, 82)),
    ]
    assert forward_passes(net(scale=(256, 512)), planned(net(scale=(256, 512)))) == 1 + 6 + 150


@pytest.mark.parametrize("scale", [(73, 73), (64, 96)])
def test_at_given_scales_every_net_is_tested_alike(scale):
    assert names_of(planned(net(scale=scale, crop=64), 96, 64)) == [
        ("centre", (64,)),
        ("centre", (96,)),
        ("single", (64,)),
        ("single", (96,)),
        ("multi-scale", (64, 96)),
        ("multi-crop", (64, 96)),
        ("dense+multi-crop", (64, 96)),
    ]


def test_dense_testing_is_left_out_where_it_would_trim_the_shorter_side():
    assert names_of(planned(net(scale=(37, 37), crop=32), 32, 37, 42)) == [
        ("centre", (32,)),
        ("centre", (37,)),
        ("centre", (42,)),
        ("single", (32,)),
        ("multi-crop", (32, 37, 42)),
    ]
    with pytest.raises(UsageError, match="below the net's crop of 64"):
        planned(net(scale=(73, 73), crop=64), 32)
    dense = planned(net(scale=(73, 73), crop=64), 64, 96, protocols=("multi-scale", "centre"))
    assert names_of(dense) == [("centre", (64,)), ("centre", (96,)), ("multi-scale", (64, 96))]
    with pytest.raises(UsageError, match="--protocols caffe: the tables have centre"):
        planned(net(), protocols=("caffe",))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Tables of nets of two S, tested at the same two Q, and then as each S has it."""
    folder = tmp_path_factory.mktemp("scales")
    for number, name in enumerate(("dark", "bright")):
        (folder / "photos" / name).mkdir(parents=True)
        for count in range(10):
            shade = picture(100 * number + count, 80, 60).point(lambda value, number=number: value // 3 + 80 * number)
            shade.save(folder / "photos" / name / f"{count}.png")
    options = {
        "out": folder / "out",
        "architectures": ("A",),
        "train_scale": ((37, 37), (40, 48)),
        "width": 0.125,
        "crop": 32,
        "recipe": "quick",
        "epochs": 1,
        "changes": {"batch_size": 8},
        "device": "cpu",
        "precision": "fp32",
    }
    for test_scales in ((32, 64), ()):
        tables = Tables(str(folder / "photos"), TablesOptions(**options, test_scales=test_scales))
        assert tables.train_and_test()
        tables.fuse_all()
    return folder


def test_each_q_is_a_row_and_all_nets_are_tested_alike(made):
    results = read_results(made / "out")
    tested = {
        scale: {(row.protocol, row.test_scales) for row in results.rows if row.nets[0].shown_scale == scale}
        for scale in ("37", "[40;48]")
    }
    alike = tested["37"] & tested["[40;48]"]
    assert {("centre", (32,)), ("centre", (64,)), ("single", (32,)), ("single", (64,))} < alike
    assert {("multi-scale", (32, 64)), ("multi-crop", (32, 64)), ("dense+multi-crop", (32, 64))} < alike
    assert ("single", (37,)) in tested["37"]  # of the second command, which trained nothing
    assert len(results.trainings) == 2
    (table3, _, table5, *_) = lay_out(results)
    assert [row[1:4] for row in table5.rows] == [
        ("37", "32,64", method) for method in ("dense", "multi-crop", "multi-crop & dense")
    ] + [
        ("[40;48]", scales, method)
        for scales in ("32,64", "40,44,48")
        for method in ("dense", "multi-crop", "multi-crop & dense")
    ]
    assert [row[1:3] for row in table3.rows] == [
        ("37", "32"), ("37", "37"), ("37", "64"), ("[40;48]", "32"), ("[40;48]", "44"), ("[40;48]", "64"),
    ]  # fmt: skip
    row = next(row for row in results.rows if (row.protocol, row.test_scales) == ("single", (64,)))
    tested = evaluate(made / "out/nets/A-S37-seed0", made / "photos", test_scales=[64])
    assert row.record["top1_error"] == tested.top1_error


def test_rows_say_the_positions_of_the_map_and_the_share_of_the_image(made):
    results = read_results(made / "out")
    of_small = {(row.protocol, row.test_scales): row.record for row in results.rows if not row.nets[0].is_jittered}
    whole, trimmed, centre = (of_small["single", (64,)], of_small["single", (37,)], of_small["centre", (64,)])
    assert whole["map_positions"] == [4.0]  # 85 x 64 pixels: 2 x 2
    assert whole["share_seen"] == pytest.approx([64 / 85])
    assert trimmed["map_positions"] == [1.0]
    assert trimmed["share_seen"] == pytest.approx([32 * 32 / (49 * 37)])
    assert centre["share_seen"] == pytest.approx([32 * 32 / (85 * 64)])
    several = of_small["multi-scale", (32, 64)]
    assert several["map_positions"] == [1.0, 4.0]
    assert several["share_seen"] == pytest.approx([32 / 43, 64 / 85])
    assert of_small["dense+multi-crop", (32, 64)]["share_seen"] == several["share_seen"]
    assert "share_seen" not in of_small["multi-crop", (32, 64)]
    (remark,) = [text for text in results.remarks if text.startswith("of an image")]
    assert "75% at Q = 64" in remark
    assert "56% at Q = 37" in remark
    assert "multiples of 32 leave the shorter side whole" in remark


def test_a_single_position_is_remarked_where_every_test_has_it(made):
    single = PROTOCOLS["single"]
    for scales, is_remarked in (((32,), True), ((32, 64), False)):
        notes = []
        tests = [ProtocolAt(single, (scale,)) for scale in scales]
        evaluate_each([made / "out/nets/A-S37-seed0"], made / "photos", tests, note=notes.append)
        assert any("single position" in text for text in notes) == is_remarked
