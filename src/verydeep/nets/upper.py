"""The upper part of a net, on the maps of one of its poolings: what is trained where the blocks below stay as they are.

Paper: section 2.1.
"""

from jaxtyping import Float
from torch import Tensor, nn

from verydeep.nets.layers import recomputed
from verydeep.nets.net import VeryDeep


class UpperBlocks(nn.Module):
    """The blocks of a net after a pooling, and its head.

    Args:
        net: whose layers these are.
        first: the first block that is computed, 2 to 5; 6 computes the head alone.
    """

    def __init__(self, net: VeryDeep, first: int) -> None:
        super().__init__()
        self.net, self.first = net, first

    def features(self, maps: Float[Tensor, "n c y x"]) -> Float[Tensor, "n k v u"]:
        """Computes the map after the last pooling from that of the pooling before the first block, of any precision."""
        maps = maps.to(next(self.net.parameters()).dtype)
        for block in self.net.blocks()[self.first - 1 :]:
            again = self.net.gradient_checkpointing and maps.requires_grad
            maps = recomputed(block, maps) if again else block(maps)
        return maps

    def forward(self, maps: Float[Tensor, "n c y x"]) -> Float[Tensor, "n k"]:
        """Computes the scores: the mean of the class score map over its positions."""
        return self.net.head(self.features(maps)).mean((2, 3))
