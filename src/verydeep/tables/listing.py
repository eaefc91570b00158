"""Which nets the tables consist of: architectures x training scales x seeds, chains of them, and what is fused.

Paper: sections 3.1, 4.1 and 4.4.
"""

from collections.abc import Sequence
from pathlib import Path

from verydeep.errors import UsageError
from verydeep.nets.architecture import ARCHITECTURES, find_architecture, scaled_length
from verydeep.paper.tables import FIXED_256, FIXED_384, JITTERED, TABLE_3, TABLE_6, Scales
from verydeep.tables.grid import TableNet, TableRun, TablesOptions


def list_runs(options: TablesOptions, *, crop: int, out: Path) -> list[TableRun]:
    """Lists the trainings, all nets of the first seed before those of the next; ``crop`` is that of the nets.

    Raises:
        UsageError: an unknown architecture, or one that is given twice.
    """
    nets: list[TableNet] = []
    for name in options.architectures:
        row, named_batch_norm = find_architecture(name)
        has_norm = options.batch_norm or named_batch_norm
        of_paper = (FIXED_256, FIXED_384, JITTERED) if options.is_chain else paper_scales(row.name)
        scales = options.train_scale or tuple(_scaled(one, crop) for one in of_paper)
        for path in _chain_paths(scales) if options.is_chain else [(one,) for one in scales]:
            net = TableNet(
                name=f"{row.name}-bn" if has_norm else row.name,
                architecture=row.name,
                batch_norm=has_norm,
                crop=crop,
                train_scale=path[-1],
                before=path[:-1],
            )
            if net in nets:
                raise UsageError(f"{net.title} is asked for twice: give each architecture and scale once")
            nets.append(net)
    return [run for seed in range(options.seeds) for run in _runs_of_seed(nets, seed, out)]


def _chain_paths(scales: Sequence[Scales]) -> list[tuple[Scales, ...]]:
    """The first S and what comes after it, one S more each time; then the controls, which stay at the first."""
    paths = [tuple(scales[: number + 1]) for number in range(len(scales))]
    return paths + [(scales[0],) * len(path) for path in paths[1:]]


def _runs_of_seed(nets: Sequence[TableNet], seed: int, out: Path) -> list[TableRun]:
    """The trainings of one seed: a net comes after that which it begins from, and a control after its match."""
    runs: dict[TableNet, TableRun] = {}
    for net in nets:
        stem = f"{_stem(net)}-seed{seed}"
        alike = (run for other, run in runs.items() if other.name == net.name and len(other.path) == len(net.path))
        runs[net] = TableRun(
            net=net,
            seed=seed,
            model=out / "nets" / stem,
            stem=stem,
            start=None if net.start is None else runs[net.start],
            matched=next(alike, None) if net.is_control else None,
        )
    return list(runs.values())


def _stem(net: TableNet) -> str:
    """Such as ``D-bn-S73-146``, and of a chain ``D-bn-S73-to-S73-146``."""
    return f"{net.name}-" + "-to-".join(f"S{low}-{high}" if low < high else f"S{low}" for low, high in net.path)


def paper_scales(architecture: str) -> list[Scales]:
    """The training scales that the paper has of a net; the smaller fixed one where it has none."""
    return [row.train_scale for row in TABLE_3 if row.architecture == architecture] or [FIXED_256]


def _scaled(scales: Scales, crop: int) -> Scales:
    return scaled_length(scales[0], crop), scaled_length(scales[1], crop)


def fusions(nets: Sequence[TableNet]) -> list[tuple[TableNet, ...]]:
    """Which nets are fused: as the paper did, whatever their errors.

    The two deepest at each training scale (the paper's D and E with jitter), all of one training scale, and the seven
    of the submission where they are there; no controls, which the paper does not have.

    Paper: section 4.4.
    """
    groups: list[tuple[TableNet, ...]] = []
    nets = [net for net in nets if not net.is_control]
    for path in dict.fromkeys(net.path for net in nets):
        alike = sorted((net for net in nets if net.path == path), key=_depth)
        groups += [tuple(alike[-2:]), tuple(alike)]
    submitted = [(net.architecture, net.train_scale) for net in TABLE_6[0].models]
    by_paper = {(net.architecture, net.paper_scale): net for net in nets}
    if all(one in by_paper for one in submitted):
        groups.append(tuple(by_paper[one] for one in submitted))
    return [group for group in dict.fromkeys(groups) if len(group) > 1]


def _depth(net: TableNet) -> int:
    return ARCHITECTURES[net.architecture].weight_layers
