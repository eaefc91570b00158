"""An accelerated net is copied and pickled, takes no image at all, and says what it never calls."""

import copy
import pickle

import pytest
import torch

from small_nets import make_net, photos
from verydeep.errors import UserError
from verydeep.speed.accelerate import accelerate

IMAGES = photos(32, 32)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("again", [copy.deepcopy, lambda fast: pickle.loads(pickle.dumps(fast))])
@pytest.mark.filterwarnings("ignore:.*bf16")
def test_a_copy_gives_the_same_scores_and_has_a_net_of_its_own(again, precision):
    fast = accelerate(make_net(), precision=precision)
    copied = again(fast)
    assert copied.precision == precision
    assert torch.equal(copied(IMAGES), fast(IMAGES))
    assert copied.net is not fast.net


def test_no_images_give_no_scores():
    net = make_net()
    fast, none = accelerate(net), IMAGES[:0]
    for each in (net, fast):
        assert each(none).shape == (0, 7)
        assert each(none.float()).shape == (0, 7)
        assert each.features(none).shape[0] == 0
        assert each.activations(none, ["relu3_1"])["relu3_1"].shape[0] == 0
    assert make_net(head="linear")(none).shape == (0, 7)


@pytest.mark.parametrize("register", ["register_forward_hook", "register_full_backward_hook"])
def test_a_hook_that_is_never_called_is_refused(register):
    net = make_net()
    fast = accelerate(net)
    handle = getattr(net.conv1_1, register)(lambda *_: None)
    for use in (lambda: fast(IMAGES), lambda: fast.features(IMAGES), lambda: accelerate(net)):
        with pytest.raises(UserError, match=r"conv1_1 has a hook, .* never calls: say activations"):
            use()
    handle.remove()
    assert fast(IMAGES).shape == (2, 7)
