"""What is saved loads with the same scores, or is refused when it is saved."""

import copy

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.optim.swa_utils import AveragedModel

from small_nets import make_net, photos
from verydeep.errors import UsageError, UserError
from verydeep.nets.model_file import save
from verydeep.nets.net import VeryDeep
from verydeep.speed.accelerate import accelerate
from verydeep.weights.imported import assemble
from verydeep.weights.readers import read_weights
from verydeep.weights.resolve import load

IMAGES = photos(32, 32)


def saved(net, tmp_path):
    save(net, tmp_path / "a.safetensors")
    return load(tmp_path / "a.safetensors")


def agree(first, second):
    with torch.inference_mode():
        torch.testing.assert_close(first(IMAGES), second(IMAGES), rtol=1e-4, atol=1e-6)


def conv(net):
    net.fc8 = nn.Conv2d(512, 4, 1)


def linear(net):
    net.fc8 = nn.Linear(512, 4)


def pruned(net):
    prune.l1_unstructured(net.conv3_1, "weight", 0.5)
    net.conv3_1.weight_orig.data *= 2  # as an optimiser does after the last forward pass


def normed(net):
    parametrizations.weight_norm(net.fc7)


def spectral(net):
    parametrizations.spectral_norm(net.conv2_1)


def biasless(net):
    net.conv1_1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)


def tied(net):
    net.conv4_2.bias = net.conv4_1.bias


def constant(net):
    net.conv1_1.bias = nn.Parameter(torch.full((1,), 0.25).expand(8))


def compiled_layer(net):
    net.conv1_1 = torch.compile(net.conv1_1, backend="eager")


CHANGES = (conv, linear, pruned, normed, spectral, biasless, tied, constant, compiled_layer)


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_layer_is_followed(change, tmp_path):
    net = make_net(num_classes=7)
    net.classes = tuple("abcdefg")
    change(net)
    again = saved(net, tmp_path)
    agree(again, net)
    renewed = change in (conv, linear)
    assert (again.geometry.num_classes, again.classes) == ((4, None) if renewed else (7, tuple("abcdefg")))
    with torch.inference_mode():
        assert torch.equal(net.activations(IMAGES, ["fc8"])["fc8"].mean((2, 3)), net(IMAGES))


def test_a_new_last_layer_of_as_many_classes_keeps_their_names():
    net = make_net(num_classes=3)
    net.classes = ("a", "b", "c")
    net.fc8 = nn.Conv2d(512, 3, 1)
    assert net.classes == ("a", "b", "c")


@pytest.mark.parametrize("change", [linear, biasless, conv])
def test_a_changed_layer_is_accelerated(change):
    net = make_net()
    change(net)
    agree(accelerate(net.eval()), net)


def compiled(net):
    return torch.compile(net, backend="eager")


def distributed(net):
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        return nn.parallel.DistributedDataParallel(net)
    finally:
        torch.distributed.destroy_process_group()


WRAPPERS = (compiled, nn.DataParallel, distributed, AveragedModel, lambda net: compiled(nn.DataParallel(net)))


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_what_wraps_a_net_is_taken_off(wrap, tmp_path):
    net = make_net()
    agree(saved(wrap(copy.deepcopy(net)), tmp_path), net)
    agree(accelerate(wrap(copy.deepcopy(net))), net)


class Lora(nn.Module):
    """As peft wraps a layer."""

    def __init__(self, base):
        super().__init__()
        self.base_layer, self.lora_A, self.lora_B = base, nn.Conv2d(512, 2, 1), nn.Conv2d(2, 512, 1)

    def forward(self, x):
        return self.base_layer(x) + self.lora_B(self.lora_A(x))


class LoraLinear(nn.Linear):
    """As loralib has it: a kind of linear layer."""


REFUSED = {
    "fc7": lambda net: Lora(net.fc7),
    "fc8": lambda net: LoraLinear(512, 7),
    "fc6": lambda net: nn.Conv2d(64, 300, 1),
    "pool1": lambda net: nn.AvgPool2d(2),
    "relu2_1": lambda net: nn.LeakyReLU(),
    "conv2_1": lambda net: nn.Conv2d(8, 16, 3, padding=1, padding_mode="reflect"),
    "ending": lambda net: nn.Sigmoid(),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_model_file_cannot_hold_is_refused_when_it_is_saved(name, tmp_path):
    net = make_net()
    setattr(net, name, REFUSED[name](net))
    with pytest.raises(UserError, match=rf"this net cannot be saved: {name} is ") as told:
        save(net, tmp_path / "a.safetensors")
    assert "\n" not in str(told.value)
    assert not list(tmp_path.iterdir())


def test_a_layer_that_is_away_is_refused_and_a_dropout_is_not(tmp_path):
    net = make_net()
    net.drop6, net.pool1 = nn.Identity(), nn.MaxPool2d((2, 2), (2, 2))
    agree(saved(net, tmp_path), net)
    del net.relu6
    with pytest.raises(UserError, match="relu6 is missing"):
        save(net, tmp_path / "b.safetensors")


def test_another_programs_net_is_refused(tmp_path):
    with pytest.raises(UsageError, match="Linear is no net of this package"):
        save(nn.Linear(2, 2), tmp_path / "a.safetensors")


def test_one_tensor_that_serves_several_layers_is_imported(tmp_path):
    """The biases of Caffe's converters, which are one tensor of zeros; and one number in many places."""
    from peer_nets import torchvision_net

    state, zeros = torchvision_net("A").state_dict(), torch.zeros(64)
    wide = [name for name, tensor in state.items() if name.startswith("features") and tensor.shape == (64,)]
    state |= dict.fromkeys(wide, zeros) | {"features.0.bias": torch.full((1,), 0.5).expand(8)}
    torch.save(state, tmp_path / "a.pth")
    net = assemble(read_weights(tmp_path / "a.pth"))
    assert not net.conv4_1.bias.any()
    with torch.no_grad():
        net.conv4_1.bias += 1  # a training changes one of them
    assert not net.conv4_2.bias.any()
    assert net.conv1_1.bias.tolist() == [0.5] * 8
    save(net, tmp_path / "a.safetensors")
    assert load_file(tmp_path / "a.safetensors")["conv1_1.bias"].tolist() == [0.5] * 8


def test_shared_memory_is_saved_as_the_parts_that_it_is(tmp_path):
    net = VeryDeep("A", width=0.125, crop=32, num_classes=4, generator=torch.Generator().manual_seed(0))
    flat = torch.rand(128)
    net.conv4_1.bias, net.conv4_2.bias = nn.Parameter(flat[:64]), nn.Parameter(flat[32:96])
    agree(saved(net.eval(), tmp_path), net)
