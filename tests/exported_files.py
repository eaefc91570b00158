"""Small models, and the files that are made of them, for the tests of exports."""

import numpy as np
from safetensors.numpy import save_file

from conftest import scene
from small_nets import make_net
from verydeep import save
from verydeep.data.dataset import NO_VALIDATION
from verydeep.download import digest_of
from verydeep.export.sources import metadata_of
from verydeep.export.targets import TARGETS
from verydeep.nets.model_card import DataCard
from verydeep.testing.descriptors import Describer, DescriptorOptions
from verydeep.testing.transferred import CLASSIFIER_FILE, NetReference, TransferCard
from verydeep.weights.resolve import TRANSFER_FILE


def write(net, folder, *, scale):
    net.train_scale = (scale, scale)
    net.classes = None if net.features_only or net.boxes else tuple("abcdefg")
    save(net, folder / "net.safetensors")
    return str(folder / "net.safetensors")


def opened(source, to, folder, options, precision="fp32"):
    """Writes a source for a target, and opens the file by its runtime."""
    target = TARGETS[to]
    runtime = target.runtime()
    program = source.program(narrow=precision in target.narrows)
    file = folder / f"net{target.suffix}"
    runtime.write(program, metadata_of(source, program, {}), precision, file, source.smallest_side)
    return runtime.open(file)


def photographs(side):
    return [np.asarray(scene(seed, side + 10 * seed, side + 37)) for seed in range(3)]


def make_transferred(folder, *, multi_label=False, names=("A", "C"), **options):
    """A classifier of descriptors of small nets, with random weights."""
    (folder / "nets").mkdir(parents=True)
    nets, references = [], []
    for number, name in enumerate(names):
        nets.append(make_net(name, seed=number, crop=64, batch_norm=number == 1))
        file = folder / "nets" / f"{number}.safetensors"
        save(nets[-1], file)
        references.append(NetReference(file=f"nets/{number}.safetensors", sha256=digest_of(file, "sha256")))
    describing = DescriptorOptions(**({"test_scales": (64, 96)} | options))
    random = np.random.default_rng(0)
    dimensions = Describer(nets, describing).dimensions
    weights = {"weight": 10 * random.normal(size=(3, dimensions)), "bias": random.normal(size=3)}
    save_file(weights, folder / CLASSIFIER_FILE)
    card = TransferCard(
        classes=("a", "b", "c"),
        multi_label=multi_label,
        nets=tuple(references),
        descriptors=describing,
        classifier={},
        data=DataCard(name="x", fingerprint="0", num_train=1, validation=NO_VALIDATION),
    )
    (folder / TRANSFER_FILE).write_text(card.model_dump_json())
    return folder
