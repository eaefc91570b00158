"""The plateau rule, step by step."""

from dataclasses import replace

from small_nets import make_net
from verydeep.device import Compute
from verydeep.training.callbacks import Validation
from verydeep.training.loop import make_state
from verydeep.training.plateau import Plateau
from verydeep.training.recipe import find_recipe


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


def test_an_epoch_at_chance_counts_as_any_other():
    compute = Compute(device="cpu", precision="fp32", channels_last=True, threads=1)
    state = make_state(make_net(), find_recipe("paper", patience=2), compute, seed=0, num_images=8, momentum={})
    validation = Validation(lambda net: {"top1_error": 0.9})
    drops = []
    for _ in range(5):
        state.position = replace(state.position, at_chance=True, seen=8, loss=8 * 2.303, seconds=1.0)
        validation.after_epoch(state)
        drops.append(state.position.plateau.drops)
        state.position = state.position.next_epoch()
    assert drops == [0, 0, 1, 1, 2]
