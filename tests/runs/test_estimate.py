"""The plan: counted figures are exact, and what will not fit is said with what helps."""

from types import SimpleNamespace

import pytest

from verydeep.data.open import open_data
from verydeep.nets.net import VeryDeep
from verydeep.runs.chain import plan_steps
from verydeep.runs.estimate import plan
from verydeep.runs.options import ComputeOptions, read_keywords
from verydeep.runs.timing import fastest, time_steps, time_update
from verydeep.speed.train_net import choose_training
from verydeep.training.recipe import find_recipe

EXECUTION = ComputeOptions(device="cpu", precision="fp32")


def planned(data, **options):
    return plan(data, read_keywords(options))


@pytest.fixture
def photos(make_folder):
    return make_folder("photos", {"dark": 24, "grey": 24, "bright": 24})


def test_what_is_counted(photos, tmp_path):
    made = planned(photos, crop=32, width=0.125, recipe="paper", execution=EXECUTION, out=tmp_path / "run")
    train = open_data(photos).train
    net = VeryDeep("A", num_classes=3, crop=32, width=0.125)
    assert (made.num_images, made.epochs, made.batch_size) == (len(train), 74, 256)
    assert made.iterations == 74
    assert made.parameters == sum(parameter.numel() for parameter in net.parameters())
    assert made.image_bytes == pytest.approx(3 * 40 * 41 * 57, rel=0.05)
    assert made.memory_bytes == 12 * made.parameters + made.activation_bytes + made.image_bytes
    assert made.disk_bytes == 28 * made.parameters
    assert made.images_per_second < min(made.computed_per_second, made.read_per_second)
    assert made.seconds > 74 * len(train) / made.images_per_second
    assert made.warnings == ()
    assert not (tmp_path / "run").exists()


def test_activations_grow_with_the_images_computed_at_a_time(photos):
    def activations(**options):
        execution = ComputeOptions(device="cpu", precision="fp32", **options)
        return planned(photos, recipe="small-images", crop=32, width=0.125, execution=execution).activation_bytes

    whole = activations()
    assert activations(micro_batch=19) == pytest.approx(19 / len(open_data(photos).train) * whole, rel=0.01)
    assert activations(gradient_checkpointing=True) < whole


def test_a_chain_is_planned_step_by_step_as_it_will_be_trained(photos):
    options = {
        "recipe": "paper-chain-from-a",
        "changes": {"epochs": 2},
        "architecture": "B",
        "crop": 32,
        "width": 0.125,
    }
    asked = read_keywords(options | {"execution": EXECUTION})
    asked.check(str(photos))
    plans = plan_steps(str(photos), asked)
    assert list(plans) == ["paper-A", "paper", "paper-384", "paper-jitter"]
    assert [made.net.split()[0] for made in plans.values()] == ["A", "B", "B", "B"]
    assert {made.epochs for made in plans.values()} == {2}


def test_what_will_not_fit(photos, monkeypatch):
    monkeypatch.setattr("verydeep.runs.estimate.free_bytes", lambda device: 12 * 2**20)
    monkeypatch.setattr("verydeep.runs.estimate._free_disk", lambda folder: 2**20)
    memory, disk = planned(photos, crop=32, width=0.125, execution=EXECUTION).warnings
    assert "memory will not do" in memory
    assert "--micro-batch" in memory
    assert "--gradient-checkpointing" in memory
    assert "--out" in disk
    ahead = ComputeOptions(device="cpu", precision="fp32", gradient_checkpointing=True)
    again = planned(photos, crop=64, width=0.125, execution=ahead).warnings[0]
    assert "--gradient-checkpointing" not in again
    assert "a smaller --crop than 64" in again


class _Clock:
    """Seconds that updates take: a tenth, whatever its images, and two hundredths for each."""

    def __init__(self):
        self.now, self.most = 0.0, 0

    def update(self, net, optimiser, images, labels, compute):
        self.now += 0.1 + 0.02 * len(images)
        self.most = max(self.most, len(images))


@pytest.fixture
def clock(monkeypatch):
    clock = _Clock()
    monkeypatch.setattr("verydeep.runs.timing.update", clock.update)
    monkeypatch.setattr("verydeep.runs.timing.time", SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


def test_what_an_update_costs_whatever_its_images_is_told_from_what_each_costs(clock):
    net = VeryDeep("A", num_classes=3, crop=64, width=0.125)
    compute = choose_training(net.geometry, device="cpu", precision="fp32")
    said = []
    found = time_update(net, find_recipe("quick"), compute, 64, lambda *progress: said.append(progress))
    assert found.fixed == pytest.approx(0.1)
    assert found.per_image == pytest.approx(0.02)
    assert found.images_per_second(64) == pytest.approx(64 / (0.1 + 64 * 0.02))
    assert found.scaled(2).per_image == pytest.approx(0.04)
    assert said[-1][1:] == (3, 3)
    assert time_update(net, find_recipe("quick"), compute, 1).images_per_second(1) == pytest.approx(1 / 0.12)


def test_few_images_of_the_papers_crop_are_measured(clock):
    net = VeryDeep("A", num_classes=3, crop=224, width=0.125)
    time_update(net, find_recipe("paper"), choose_training(net.geometry, device="cpu", precision="fp32"), 256)
    assert clock.most == 4  # an update of eight images of D takes 4 s on two cores


def test_quick_steps_are_timed_again_and_the_fastest_counts(clock):
    asked = []

    def step(number):
        asked.append(number)
        clock.now += 0.01 * number * (2 if len(asked) % 3 else 1)

    assert fastest(step, 4, "cpu") == pytest.approx(0.04)
    assert asked == 5 * [4]
    assert fastest(step, 4, "cpu", average=max) == pytest.approx(0.08)
    assert time_steps(lambda number: clock.update(None, None, range(number), None, None), 8, 32, "cpu").fixed == (
        pytest.approx(0.1)
    )
