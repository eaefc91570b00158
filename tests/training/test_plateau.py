"""The plateau rule, step by step."""

from verydeep.training.plateau import Plateau


def run(errors, patience=2, most_drops=3):
    states = [Plateau()]
    for error in errors:
        states.append(states[-1].after(error, patience=patience, most_drops=most_drops))
    return states[1:]


def test_a_better_error_never_drops_the_rate():
    assert all(state.drops == 0 for state in run([0.9, 0.8, 0.7, 0.6]))


def test_the_same_error_is_no_better_one():
    assert [state.drops for state in run([0.5, 0.5, 0.5])] == [0, 0, 1]


def test_patience_counts_from_the_best_and_from_the_drop():
    states = run([0.5, 0.6, 0.6, 0.6, 0.6])
    assert [state.drops for state in states] == [0, 0, 1, 1, 2]
    assert states[-1].best == 0.5
    assert [state.waited for state in run([0.5, 0.6, 0.4, 0.6])] == [0, 1, 0, 1]


def test_three_drops_and_no_further_gain_end_it():
    states = run([0.5] + [0.6] * 8)
    assert states[-2].drops == 3
    assert not states[-2].ended
    assert states[-1].ended


def test_a_gain_after_the_last_drop_goes_on():
    states = run([0.5] + [0.6] * 7 + [0.4, 0.6])
    assert states[-1].drops == 3
    assert not states[-1].ended
