"""Choosing how to compute."""

import pytest
import torch

from verydeep.device import Compute, check_precision, find_device, has_fast_bf16
from verydeep.errors import UsageError


def test_wrong_names():
    with pytest.raises(UsageError, match="fp32, bf16"):
        check_precision("fp16")
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
