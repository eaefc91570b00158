"""How each net of the tables is tested: the paper's protocols, at the test scales of its S or at given ones.

Paper: sections 4.1, 4.2 and 4.3.
"""

from collections.abc import Sequence

from verydeep.errors import UsageError
from verydeep.paper.constants import TOTAL_STRIDE
from verydeep.tables.grid import DENSE_AND_CROPS, FUSED, TableNet, TablesOptions
from verydeep.testing.protocols import PROTOCOLS, ProtocolAt, ViewPlan, check_scales_for

_DENSE = ("centre", "single", "multi-scale")
_OF_TABLES = (*_DENSE, "multi-crop", DENSE_AND_CROPS)


def list_tests(net: TableNet, options: TablesOptions) -> tuple[ProtocolAt, ...]:
    """Lists the tests of a net.

    Without test scales they are the paper's: Q goes by S, and many crops are for nets with scale jitter, as in Table 5.
    With them every net is tested alike: by each protocol of one scale at each, and by the others at all together.

    Choice: dense testing is left out at a given Q that is no multiple of 32, where it would trim the shorter side; the
    alternative is to pad with zeros, of which the net has seen none in training.
    """
    if others := set(options.protocols) - set(_OF_TABLES):
        raise UsageError(f"--protocols {min(others)}: the tables have {', '.join(_OF_TABLES)}")
    if options.test_scales:
        tests = _at_given_scales(tuple(sorted(check_scales_for(net.crop, options.test_scales))))
    else:
        rows = [PROTOCOLS[name] for name in (_OF_TABLES if net.is_jittered else _DENSE)]
        tests = [ProtocolAt(row, row.scales_of(net.train_scale, net.crop)) for row in rows]
    return tuple(one for one in tests if not options.protocols or one.protocol.name in options.protocols)


def _at_given_scales(scales: tuple[int, ...]) -> list[ProtocolAt]:
    whole = tuple(scale for scale in scales if scale % TOTAL_STRIDE == 0)
    tests: list[tuple[str, tuple[int, ...]]] = [("centre", (scale,)) for scale in scales]
    tests += [("single", (scale,)) for scale in whole]
    tests += [("multi-scale", whole)] if len(whole) > 1 else []
    tests += [("multi-crop", scales), *([(DENSE_AND_CROPS, scales)] if whole == scales else [])]
    return [ProtocolAt(PROTOCOLS[name], at) for name, at in tests]


def list_fused_tests(nets: Sequence[TableNet], options: TablesOptions) -> dict[ProtocolAt, list[ProtocolAt]]:
    """Lists the tests by which nets are fused, each with that of each net; its scales are those of all of them."""
    found = {}
    for first in list_tests(nets[0], options):
        tests = [_same_test(net, first, options) for net in nets]
        each = [test for test in tests if test is not None]
        if first.protocol.name in FUSED and len(each) == len(nets):
            scales = tuple(sorted({scale for test in each for scale in test.scales}))
            found[ProtocolAt(first.protocol, scales)] = each
    return found


def _same_test(net: TableNet, test: ProtocolAt, options: TablesOptions) -> ProtocolAt | None:
    alike = (one for one in list_tests(net, options) if one.protocol == test.protocol)
    return next((one for one in alike if not options.test_scales or one.scales == test.scales), None)


def forward_passes(net: TableNet, tests: Sequence[ProtocolAt]) -> int:
    """Parts of an image that several tests apply a net to, mirrored ones too; what they share counts once."""
    views = ViewPlan(tests, net.crop, mirror=True).views
    return sum(view.method.parts * (2 if view.mirrored else 1) for view in views)
