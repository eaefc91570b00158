"""The memory that ``train --plan`` estimates beside what a process takes: two updates of D at crop 96.

    python benchmarks/plan_memory.py

Each case runs in a process of its own; measured is its peak less what it had before the net was placed.
"""

import resource
import subprocess
import sys

CASES = ("fp32", "fp32 checkpointing", "fp32 batch-norm", "bf16", "fp32 tuned")
IMAGES, CROP = 32, 96


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(case: str) -> None:
    """Trains for two updates and prints both numbers."""
    from verydeep.speed.allocator import tune_allocator

    options = case.split()
    if "tuned" in options:
        tune_allocator()

    import torch

    from verydeep.device import Compute
    from verydeep.nets.net import VeryDeep
    from verydeep.runs.compute import fixed_bytes, saved_bytes
    from verydeep.training.loop import make_optimiser
    from verydeep.training.recipe import find_recipe
    from verydeep.training.update import update

    torch.set_num_threads(1)
    net = VeryDeep("D", num_classes=10, crop=CROP, batch_norm="batch-norm" in options)
    choice = Compute(
        device="cpu",
        precision=options[0],
        channels_last=True,
        threads=1,
        gradient_checkpointing="checkpointing" in options,
    )
    weights = 4 * sum(parameter.numel() for parameter in net.parameters())
    before = peak()
    net.place(choice)
    net.train()
    optimiser = make_optimiser(net, find_recipe("paper"))
    images = torch.randint(0, 256, (IMAGES, 3, CROP, CROP), dtype=torch.uint8)
    for _ in range(2):
        update(net, optimiser, images, torch.zeros(IMAGES, dtype=torch.int64), choice)
    measured = peak() - before
    estimate = fixed_bytes(net, choice) - weights + IMAGES * saved_bytes(net, choice)  # the weights were there before
    print(f"{case}: measured {measured / 1e6:,.0f} MB, estimate {estimate / 1e6:,.0f} MB, {estimate / measured:.2f}")


def main() -> None:
    if len(sys.argv) > 1:
        measure(sys.argv[1])
        return
    for case in CASES:
        subprocess.run([sys.executable, __file__, case], check=True)


if __name__ == "__main__":
    main()
