"""Each finding of the convergence doctor, provoked; and a healthy training has none."""

import json
import math

import pytest
import torch

from verydeep.device import Compute
from verydeep.errors import UserError
from verydeep.nets.net import VeryDeep
from verydeep.runs.options import ComputeOptions
from verydeep.runs.start import fit
from verydeep.training.health import first_not_finite, silent_units, stuck_at_chance
from verydeep.training.recipe import find_recipe
from verydeep.training.state import Callback

CHOICE = Compute(device="cpu", precision="fp32", channels_last=False, threads=1)


class Notes(Callback):
    def __init__(self):
        self.notes = []

    def note(self, text):
        if text.startswith("convergence"):
            self.notes.append(text)


def make_net(architecture="A", initialisation="kaiming", batch_norm=False):
    generator = torch.Generator().manual_seed(0)
    return VeryDeep(
        architecture, num_classes=3, crop=32, width=0.125, batch_norm=batch_norm, initialisation=initialisation,
        generator=generator,
    )  # fmt: skip


def trained(net, make_folder, tmp_path, **changes):
    photos = make_folder("photos", {"dark": 24, "grey": 24, "bright": 24})
    recipe = find_recipe("quick", **{"epochs": 4, "batch_size": 2} | changes)
    said = Notes()
    execution = ComputeOptions(device="cpu", precision="fp32")
    fit(net, photos, recipe=recipe, out=tmp_path / "run", execution=execution, reporter=said)
    log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    return said.notes, [finding["kind"] for line in log for finding in line["findings"]]


def test_a_healthy_training_has_no_findings(make_folder, tmp_path):
    assert trained(make_net(batch_norm=True), make_folder, tmp_path, batch_size=8, epochs=8) == ([], [])


def test_a_deep_net_from_small_noise_is_stuck_and_is_told_to_grow(make_folder, tmp_path):
    notes, kinds = trained(make_net("D", "gaussian"), make_folder, tmp_path, patience=2, epochs=8)
    assert kinds == ["stuck", "stuck"]
    assert "ln 3, for 4 epochs" in notes[0]
    assert "plain nets of 16 weight layers" in notes[0]
    assert "paper-chain-from-a" in notes[0]
    assert "--batch-norm" in notes[0]


def test_a_shallow_net_is_not_told_to_grow_and_one_with_batch_norm_not_to_add_it():
    log = [{"loss": math.log(3)}] * 4
    recipe = find_recipe("quick", patience=2)
    shallow = str(stuck_at_chance(make_net("A"), recipe, log, 50))
    assert "grow" not in shallow
    assert "--batch-norm" in shallow
    assert "--batch-norm" not in str(stuck_at_chance(make_net("D", batch_norm=True), recipe, log, 50))


@pytest.mark.parametrize("losses", [[1.0986, 1.07], [1.13, 1.0986], [1.0986]])
def test_not_stuck(losses):
    recipe = find_recipe("quick", patience=2)
    assert stuck_at_chance(make_net(), recipe, [{"loss": loss} for loss in losses], 1000) is None


def test_a_net_that_has_hardly_begun_is_not_stuck():
    recipe = find_recipe("quick", patience=2)
    log = [{"loss": 1.0986}] * 2
    assert stuck_at_chance(make_net(), recipe, log, 49) is None
    assert stuck_at_chance(make_net(), recipe, log, 50) is not None


def test_a_rate_far_too_high(make_folder, tmp_path):
    notes, kinds = trained(make_net(batch_norm=True), make_folder, tmp_path, learning_rate=0.7, batch_size=16)
    assert "rate-high" in kinds
    assert "--set learning_rate=0.07" in " ".join(notes)


def test_a_rate_far_too_low(make_folder, tmp_path):
    notes, kinds = trained(make_net(batch_norm=True), make_folder, tmp_path, learning_rate=1e-8)
    assert set(kinds) <= {"rate-low", "stuck"}
    assert "rate-low" in kinds
    assert "raise it" in " ".join(notes)


def test_units_that_never_fire():
    images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
    net = make_net()
    assert silent_units(net, images, CHOICE) is None
    with torch.no_grad():
        net.get_submodule("conv3_2").bias[:28] = -1e6
    finding = silent_units(net.train(), images, CHOICE)
    assert net.training
    assert finding is not None
    assert "88% of the units of relu3_2" in finding.saw


def test_where_the_numbers_leave_the_range(make_folder, tmp_path):
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    net = make_net()
    assert first_not_finite(net, images, CHOICE) is None
    with torch.no_grad():
        net.get_submodule("conv4_2").weight.fill_(1e38)
    assert first_not_finite(net, images, CHOICE) == "conv4_2"
    with torch.no_grad():
        net.get_submodule("conv2_1").bias[0] = math.nan
    assert first_not_finite(net, images, CHOICE) == "conv2_1"
    with pytest.raises(UserError, match=r"NaN or infinity, first in .*--batch-norm"):
        trained(make_net(), make_folder, tmp_path, learning_rate=1e25, warmup=0)
