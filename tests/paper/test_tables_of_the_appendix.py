"""The tables of the appendices against each other, and against cells typed a second time."""

from verydeep.paper.tables import TABLE_8, TABLE_9, TABLE_10, TABLE_11, TABLE_12


def test_localisation_typed_twice_is_the_same():
    assert {(row.finetune, row.regression): row.error for row in TABLE_8} == {
        ("all", "pcr"): 33.1, ("fc", "pcr"): 34.3, ("fc", "scr"): 36.4,
    }  # fmt: skip
    assert [row.val for row in TABLE_9] == [29.5, 28.2, 27.5, 26.9]
    assert [row.test for row in TABLE_9] == [None, 26.7, None, 25.3]
    assert [row.test for row in TABLE_10] == [25.3, 26.7, 29.9, 34.2]


def test_own_row_of_table_10_is_the_fusion_of_table_9():
    fused = next(row for row in TABLE_9 if len(row.localisers) > 1)
    assert (TABLE_10[0].val, TABLE_10[0].test) == (fused.val, fused.test)
    singles = {localiser for row in TABLE_9 if len(row.localisers) == 1 for localiser in row.localisers}
    assert set(fused.localisers) <= singles
    assert fused.val == min(row.val for row in TABLE_9)
    assert TABLE_10[0].test == min(row.test for row in TABLE_10)  # it won ILSVRC-2014


def test_boxes_for_each_class_and_all_layers_are_better():
    shared, by_class, everything = (row.error for row in TABLE_8)
    assert shared > by_class > everything


def test_transfer_typed_twice_and_what_the_text_says():
    own = {row.method: row for row in TABLE_11 if row.method.startswith("VGG")}
    d, e, both = own["VGG D"], own["VGG E"], own["VGG D & E"]
    assert (d.voc2007, d.voc2012) == (e.voc2007, e.voc2012)  # "Net-D and Net-E identical on VOC"
    assert [row.caltech256.value for row in (d, e, both)] == [85.0, 85.1, 86.2]
    assert [row.caltech101.value for row in (d, e, both)] == [91.8, 92.3, 92.7]
    assert [row.caltech101.spread for row in (d, e, both)] == [1.0, 0.5, 0.5]
    others = [row for row in TABLE_11 if row.method not in own]
    assert round(both.caltech256.value - max(r.caltech256.value for r in others if r.caltech256), 1) == 8.6
    chatfield = next(row for row in TABLE_11 if row.method.startswith("Chatfield"))
    for own_score, other in zip(both.voc2007 + both.voc2012, chatfield.voc2007 + chatfield.voc2012, strict=True):
        assert own_score.value - other.value > 6  # "more than 6% better"
    wei = next(row for row in TABLE_11 if row.method.startswith("Wei"))
    best = next(score for score in wei.voc2012 if score.extended)
    assert round(best.value - both.voc2012[0].value) == 1


def test_the_box_helps_to_recognise_actions():
    scores = [row.score.value for row in TABLE_12]
    assert scores == sorted(scores)
    assert (scores[-2], scores[-1], scores[0]) == (79.2, 84.0, 70.2)
    assert [row.score.extended for row in TABLE_12] == [True, False, False, False, False]
