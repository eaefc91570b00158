"""Choosing how to compute."""

import pytest
import torch

from verydeep.device import Compute, choose, find_device, has_fast_bf16
from verydeep.errors import UsageError


def test_the_fastest_choice_wins(monkeypatch):
    tried = []
    clock = [0.0]
    monkeypatch.setattr("verydeep.device.has_fast_bf16", lambda device: True)
    monkeypatch.setattr("verydeep.device.time.perf_counter", lambda: clock[0])

    def make_step(choice):
        tried.append(choice)

        def step():
            clock[0] += 1.0 if choice.precision == "bf16" and choice.channels_last else 3.0

        return step

    choice, seconds = choose(make_step, device="cpu")
    assert (choice.precision, choice.channels_last) == ("bf16", True)
    assert len(tried) == len(seconds) == 4
    assert min(seconds.values()) == 1.0


def test_a_precision_asked_for_is_kept():
    choice, seconds = choose(lambda choice: lambda: None, device="cpu", precision="fp32")
    assert choice.precision == "fp32"
    assert len(seconds) == 2
    assert choice.threads == torch.get_num_threads()


def test_a_kernel_is_tried_where_it_can_compute(monkeypatch):
    monkeypatch.setattr("verydeep.device.has_fast_bf16", lambda device: True)
    _, seconds = choose(lambda choice: lambda: None, device="cpu", kernel=True)
    tried = [name for name in seconds if "kernel" in name]
    assert len(seconds) == 5
    assert [name.split(", ")[:4] for name in tried] == [["cpu", "fp32", "channels last", "verydeep's kernel"]]
    _, seconds = choose(lambda choice: lambda: None, device="cpu", precision="bf16", kernel=True)
    assert not any("kernel" in name for name in seconds)


def test_wrong_names():
    with pytest.raises(UsageError, match="fp32, bf16"):
        choose(lambda choice: lambda: None, device="cpu", precision="fp16")
    with pytest.raises(UsageError, match="cpu, cuda, mps"):
        find_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="no cuda device"):
            find_device("cuda")


def test_autocast_is_on_for_bf16_alone():
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with Compute(device="cpu", precision=precision, channels_last=False, threads=1).autocast():
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
    assert isinstance(has_fast_bf16("cpu"), bool)
    assert (
        str(Compute(device="cpu", precision="bf16", channels_last=True, threads=1))
        == "cpu, bf16, channels last, 1 thread"
    )
