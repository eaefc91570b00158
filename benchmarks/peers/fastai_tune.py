"""fastai's ``vision_learner(...).fine_tune(epochs)`` from the weights of vgg16-features, at its defaults.

Images as in its tutorial: ``Resize(460)``, then ``aug_transforms(size=224)``, batches of 64. One epoch with the
convolutions frozen, then as many with all free as the minutes allow; where not even the first two fit, one each over a
random part of the images that does. fastai's bf16 needs a GPU, so it is fp32.
"""

import random
import time
from pathlib import Path
from typing import Any

from benchmarks.peers.task import SAFETY, answer, begin, fastest, seconds_of

BATCH = 64
SMALL, WARM_UP = 16, 2
"""Images of a batch, and batches, that are timed, after a first one."""


def main() -> None:
    task = begin()
    import fastai.vision.all as fast
    import torch
    from torchvision.models import vgg16

    import verydeep
    from verydeep.weights.writers.torch import to_state_dict

    torch.set_num_threads(task.cores)
    fast.set_seed(task.seed, reproducible=True)
    net = verydeep.load("vgg16-features")
    state = {name: tensor for name, tensor in to_state_dict(net, "torchvision").items() if name.startswith("features.")}

    def arch(**_: Any) -> Any:  # noqa: ANN401 - torchvision's VGG
        with torch.device("meta"):  # fastai cuts off the layers that get no weights
            made = vgg16(weights=None, init_weights=False)
        copies = {name: tensor.clone() for name, tensor in state.items()}
        missing, unexpected = made.load_state_dict(copies, strict=False, assign=True)
        assert not unexpected
        assert all(name.startswith("classifier.") for name in missing)
        return made

    # the parts that it has for vgg16_bn: conv1 to conv3, conv4 and conv5, the head; normalised as these weights were
    fast.model_meta[arch] = {
        "cut": -2,
        "split": lambda model: fast.L(model[0][0][:17], model[0][0][17:], model[1:]).map(fast.params),
        "stats": ((net.mean / 255).tolist(), (net.divisor / 255).tolist()),
    }
    ends: list[float] = []

    class BatchEnds(fast.Callback):  # type: ignore[misc]
        def after_batch(self) -> None:
            if self.training:
                ends.append(time.perf_counter())

    every = sorted(Path(task.data, "train").glob("*/*"))

    def learner(files: list[Path], channels_last: bool, batch: int = BATCH) -> Any:  # noqa: ANN401
        """Validates on one image, which costs nothing: all images are for training."""
        block = fast.DataBlock(
            blocks=(fast.ImageBlock, fast.CategoryBlock(vocab=task.classes, sort=False)),
            get_items=lambda _: fast.L([*files, files[0]]),
            splitter=lambda items: (list(range(len(files))), [len(files)]),
            get_y=fast.parent_label,
            item_tfms=fast.Resize(460),
            batch_tfms=fast.aug_transforms(size=task.size),
        )
        loaders = block.dataloaders(task.data, path=task.data, bs=min(batch, len(files)), device=torch.device("cpu"))
        made = fast.vision_learner(loaders, arch)
        return made.to_channelslast(use_amp=False) if channels_last else made

    def warm_up(channels_last: bool, free: bool) -> float:
        """Seconds of an image, with what reads it."""
        files = random.Random(task.seed).choices(every, k=SMALL * (WARM_UP + 1))
        made = learner(files, channels_last, SMALL)
        if free:
            made.unfreeze()
        ends.clear()
        with made.no_bar(), made.no_logging():
            made.fit(1, cbs=[BatchEnds()])
        return (ends[WARM_UP] - ends[0]) / (SMALL * WARM_UP)

    ways = {"fp32": False, "fp32, channels last": True}
    chosen = fastest(ways, lambda channels_last: warm_up(channels_last, free=True))
    frozen, tuned = (SAFETY * len(every) * warm_up(ways[chosen], free) for free in (False, True))
    epochs = max(1, int((task.seconds - frozen) / tuned))
    share = min(1.0, task.seconds / (frozen + epochs * tuned))
    files = random.Random(task.seed).sample(every, max(2, int(share * len(every))))
    made = learner(files, ways[chosen])
    with made.no_bar(), made.no_logging():
        seconds = seconds_of(lambda: made.fine_tune(epochs))
        test, labels = task.test_files()
        scores, _ = made.get_preds(dl=made.dls.test_dl(test))
    of = f" over {len(files):,} images; over all it takes {frozen + epochs * tuned:.0f} s"
    remark = f"{task.size}x{task.size}, {chosen}; fine_tune({epochs}){of if share < 1 else ''}"
    answer(scores.argmax(1).tolist(), labels, training_seconds=seconds, remark=remark)


if __name__ == "__main__":
    main()
