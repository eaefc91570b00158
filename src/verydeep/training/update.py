"""One update of the weights: the loss of a batch, over its parts and over the processes."""

from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Num
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from verydeep.device import Compute
from verydeep.distributed import local_rank, processes
from verydeep.errors import UserError
from verydeep.nets.layers import BatchRows
from verydeep.nets.net import VeryDeep
from verydeep.nets.upper import UpperBlocks
from verydeep.training.objective import Classification, Objective


class NotFiniteError(UserError):
    """A loss that is NaN or infinite, with what gave it, on the device: images, n,3,h,w uint8, or stored maps."""

    def __init__(self, loss: float, images: Tensor) -> None:
        super().__init__(f"the loss is {loss}")
        self.images = images


def share_gradients(net: nn.Module, compute: Compute) -> nn.Module:
    """Wraps a net, or its upper blocks, so that gradients are averaged over the processes; for a single one it stays.

    Batch norm's statistics are those of all processes on GPUs, and of each process elsewhere.
    """
    if processes().size == 1:
        return net
    if compute.device == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(net)
    # the buffers are alike at the beginning, and batch norm's are averaged after each epoch
    buffers = [name for name, _ in net.named_buffers()]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(net, buffers)
    devices = [local_rank()] if compute.device == "cuda" else None
    return DistributedDataParallel(net, device_ids=devices, gradient_as_bucket_view=True)


def update(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    images: Num[Tensor, "n c h w"],
    targets: Tensor,
    compute: Compute,
    objective: Objective | None = None,
    *,
    seed: tuple[int, int, int] | None = None,
    total: int | None = None,
    most_gradient: float = 0,
) -> tuple[Tensor, Tensor]:
    """Updates the weights once.

    The loss is the sum over this process's images divided by the number of images of all processes, ``total``, so that
    neither the number of processes nor that of the parts changes the update of a plain net. ``seed`` (of the training,
    epoch, iteration) fixes the masks of dropout. On the CPU a loss that is not finite raises NotFiniteError before the
    weights change.

    Returns the sums of losses and scores before the update; 0 in a process without a share of the batch, which computes
    its first image.

    Paper: section 3.1, section 3.3.
    """
    net = _net_of(model)
    objective, members = objective or Classification(), processes()
    total = total or len(images)
    counts = 1.0 if members.rank < total else 0.0
    images, targets = compute.move(images, targets)
    loss_sum, score_sum = torch.zeros(2, device=images.device)
    optimiser.zero_grad()
    size = compute.micro_batch or len(images)
    rows = members.share(total) or range(1)  # a process without a share has the first image
    for start in range(0, len(images), size):
        part = slice(start, start + size)
        net.tie_dropout(None if seed is None else BatchRows(seed, total, rows[part]))
        with _gradients_kept(model, last=start + size >= len(images)):
            with compute.autocast():
                outputs = model(images[part])
            loss = objective.loss(outputs, targets[part]).sum()
            if compute.device == "cpu" and not bool(torch.isfinite(loss)):
                raise NotFiniteError(loss.item(), images[part])
            (loss * (counts * members.size / total)).backward()
        loss_sum += counts * loss.detach()
        score_sum += counts * objective.score(outputs.detach(), targets[part]).sum()
    if most_gradient:
        lower = [parameter for name, parameter in net.named_parameters() if not name.startswith("fc8")]
        nn.utils.clip_grad_norm_([parameter for parameter in lower if parameter.grad is not None], most_gradient)
    optimiser.step()
    net.tie_dropout(None)
    return loss_sum, score_sum


def _net_of(model: nn.Module) -> VeryDeep:
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    net = inner.net if isinstance(inner, UpperBlocks) else inner
    assert isinstance(net, VeryDeep)
    return net


def _gradients_kept(model: nn.Module, *, last: bool) -> AbstractContextManager[object]:
    """Only the last part of a batch sends the gradients to the other processes."""
    if isinstance(model, DistributedDataParallel) and not last:
        kept: AbstractContextManager[object] = model.no_sync()
        return kept
    return nullcontext()
