"""One percentage for work of several parts."""

from verydeep.progress import OverallProgress


def test_parts_count_by_their_weights():
    shown = []
    overall = OverallProgress(lambda what, done, total: shown.append((what, done, total)), {"train": 3.0, "test": 1.0})
    with overall.within("train"):
        overall.show("reading images", 5, 10)
        overall.advance("epoch 1", 1, 2)
        overall.advance("epoch 1, again", 1, 4)  # never back
    with overall.within("test"):
        overall.advance("testing", 0, 7)
        overall.advance("testing", 7, 7)
    assert shown == [
        ("train: reading images; per cent of all", 0, 100),
        ("train: epoch 1; per cent of all", 37, 100),
        ("train: epoch 1, again; per cent of all", 37, 100),
        ("test: testing; per cent of all", 75, 100),
        ("test: testing; per cent of all", 99, 100),  # all of it is done when the last part is left
    ]


def test_nothing_to_do_is_no_division_by_zero():
    shown = []
    OverallProgress(lambda *given: shown.append(given), {}).advance("looking", 1, 1)
    assert shown == [(": looking; per cent of all", 0, 100)]
