"""timm's train.py at its defaults, from noise: the package on PyPI does not hold the script, so its loop stands here.

resnet50; SGD with Nesterov's momentum 0.9 and weight decay 2e-5; batches of 128 at a rate of 0.1 for 256; a cosine that
ends with the minutes, after a warm-up of the script's share (5 of 300 epochs); label smoothing 0.1; crops of 8 to 100%
of the area, mirror, colours by 0.4. Where a batch of 128 leaves fewer than ten updates it is halved until there are.
"""

import time
from pathlib import Path
from typing import Any

from benchmarks.peers.task import SAFETY, answer, begin, fastest, has_bf16, seconds_of

EPOCHS, WARM_UP_EPOCHS, BATCH, RATE_OF_256 = 300, 5, 128, 0.1
FEWEST_UPDATES = 10


def main() -> None:
    task = begin()
    import timm
    import torch
    from timm.data.config import resolve_data_config
    from timm.data.dataset_factory import create_dataset
    from timm.data.loader import create_loader
    from timm.loss.cross_entropy import LabelSmoothingCrossEntropy
    from timm.optim import create_optimizer_v2  # type: ignore[attr-defined]
    from timm.scheduler.cosine_lr import CosineLRScheduler
    from timm.utils.random import random_seed

    torch.set_num_threads(task.cores)
    random_seed(task.seed)
    config = resolve_data_config({"input_size": (3, task.size, task.size)}, model=timm.create_model("resnet50"))
    classes = {name: index for index, name in enumerate(task.classes)}

    def loader(split: str, batch: int, *, training: bool) -> Any:  # noqa: ANN401
        images = create_dataset("", root=str(Path(task.data, split)), class_map=classes)
        options: dict[str, Any] = {"interpolation": config["interpolation"], "crop_pct": config["crop_pct"]}
        if training:
            options = {"interpolation": "random", "scale": (0.08, 1.0), "ratio": (3 / 4, 4 / 3), "hflip": 0.5}
            options |= {"color_jitter": 0.4, "worker_seeding": "all"}
        return create_loader(
            images,
            input_size=config["input_size"],
            batch_size=batch,
            is_training=training,
            mean=config["mean"],
            std=config["std"],
            num_workers=task.cores,
            device=torch.device("cpu"),
            use_prefetcher=False,
            **options,
        )

    loss_of = LabelSmoothingCrossEntropy(smoothing=0.1)

    class Training:
        def __init__(self, batch: int, way: str) -> None:
            self.bf16, self.layout = "bf16" in way, torch.channels_last if "last" in way else torch.contiguous_format
            self.net = timm.create_model("resnet50", num_classes=len(classes)).to(memory_format=self.layout)
            rate = RATE_OF_256 * batch / 256
            self.optimizer = create_optimizer_v2(self.net, opt="sgd", lr=rate, momentum=0.9, weight_decay=2e-5)
            self.batches: Any = iter(())
            self.loader = loader("train", batch, training=True)

        def scores(self, images: Any) -> Any:  # noqa: ANN401
            with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
                return self.net(images.contiguous(memory_format=self.layout))

        def update(self) -> None:
            batch = next(self.batches, None)
            if batch is None:
                self.batches = iter(self.loader)
                batch = next(self.batches)
            images, labels = batch
            self.optimizer.zero_grad()
            loss_of(self.scores(images).float(), labels).backward()
            self.optimizer.step()

    def warm_up(batch: int, way: str) -> float:
        training = Training(batch, way)
        training.update()
        return seconds_of(training.update)

    batch, half = min(BATCH, task.num_images), min(32, task.num_images)
    ways = ["fp32", "fp32, channels last", *(["bf16, channels last"] if has_bf16() else [])]
    chosen = fastest({way: way for way in ways}, lambda way: warm_up(half, way))
    image = SAFETY * warm_up(half, chosen) / half
    while batch > 8 and task.seconds / (image * batch) < FEWEST_UPDATES:
        batch //= 2
    updates = max(1, int(task.seconds / (image * batch)))

    training = Training(batch, chosen)
    warm_up_updates = round(updates * WARM_UP_EPOCHS / EPOCHS)
    schedule = CosineLRScheduler(
        training.optimizer, t_initial=updates, warmup_t=warm_up_updates, warmup_lr_init=1e-5, t_in_epochs=False
    )
    begun = time.perf_counter()
    for number in range(updates):
        training.update()
        schedule.step_update(number + 1)
    seconds = time.perf_counter() - begun

    predicted, labels = [], []
    training.net.eval()
    with torch.inference_mode():
        for images, truth in loader("test", 64, training=False):
            predicted += training.scores(images).argmax(1).tolist()
            labels += truth.tolist()
    epochs = updates * batch / task.num_images
    remark = f"resnet50, {task.size}x{task.size}, {chosen}; {updates} updates of {batch} ({epochs:.2g} epochs)"
    answer(predicted, labels, training_seconds=seconds, remark=remark)


if __name__ == "__main__":
    main()
