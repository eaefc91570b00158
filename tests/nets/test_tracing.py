"""What captures or transforms a net takes it: torch.fx, feature extractors, vmap, meta and fake tensors, summaries."""

import jaxtyping
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from small_nets import make_net, photos
from verydeep.nets import checks

IMAGES = photos(64, 64).float()


@pytest.fixture(autouse=True)
def shapes_unchecked():
    """What checks the shapes in the tests knows tensors alone."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize("head", ["paper", "linear"])
@pytest.mark.parametrize("input_range", ["pixels", "torchvision"])
def test_a_net_is_traced_symbolically(head, input_range):
    net = make_net(head=head, crop=64, batch_norm=True)
    net.set_input_range(input_range)
    given = IMAGES if input_range == "pixels" else IMAGES / 64 - 2
    with torch.no_grad():
        assert torch.allclose(torch.fx.symbolic_trace(net)(given), net(given), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:NOTE. The nodes obtained by tracing:UserWarning")
def test_features_are_extracted_by_the_names_of_layers():
    net = make_net(crop=64)
    # of a layer without weights torchvision takes _1 for its own mark of a second use: relu3 is relu3_1 there
    names = ["conv3_2", "conv4_1", "pool5", "relu7"]
    extract = create_feature_extractor(net, names)
    with torch.no_grad():
        found, expected = extract(IMAGES), net.activations(IMAGES, names)
    assert all(torch.allclose(found[name], expected[name], rtol=1e-4, atol=1e-4) for name in expected)
    assert "relu6" in get_graph_node_names(net)[1]


def test_vmap_over_batches_and_over_weights():
    net = make_net(crop=64)
    with torch.no_grad():
        batches = torch.stack([IMAGES, IMAGES.flip(-1)])
        found = torch.vmap(net)(batches)
        assert torch.allclose(found[1], net(batches[1]), rtol=1e-4, atol=1e-5)
        twice = {name: torch.stack([part, 2 * part]) for name, part in net.named_parameters()}
        scores = torch.vmap(lambda part: torch.func.functional_call(net, part, (IMAGES,)))(twice)
        assert torch.allclose(scores[0], net(IMAGES), rtol=1e-4, atol=1e-5)


def compiled(net, images):
    return torch.compile(net, backend="eager", fullgraph=True)(images)


def exported(net, images):
    return torch.export.export(net, (images,)).module()(images)


@pytest.mark.parametrize("trace", [compiled, exported, lambda net, images: torch.fx.symbolic_trace(net)(images)])
def test_what_captures_a_net_is_not_warned_of_the_numbers_it_is_fed(trace, monkeypatch):
    """Tools feed ``rand``, in 0..1: a warning would be an error here."""
    monkeypatch.setattr(checks, "_warned", set())
    net, images = make_net(crop=64), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        found = trace(net, images)
        with pytest.warns(UserWarning, match=r"look like 0\.\.1"):
            assert torch.allclose(found, net(images), rtol=1e-4, atol=1e-5)


def test_meta_and_fake_tensors_have_shapes():
    assert make_net().to("meta")(torch.rand(2, 3, 32, 32, device="meta")).shape == (2, 7)
    with FakeTensorMode():
        assert make_net()(torch.rand(2, 3, 32, 32)).shape == (2, 7)
