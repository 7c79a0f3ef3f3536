from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from topo_utils.topology.controls import CriticalEdgeMatching, DistanceMatching, EnergyDistance, NullReference
from topo_utils.topology.loss import TopologicalLoss


@dataclass(frozen=True)
class Regularizer:
    make: Callable[[TopologicalLoss], nn.Module]
    paired: bool = False
    one_space: bool = False
    items: bool = False


REGULARIZERS = {
    "topological": Regularizer(lambda loss: loss, items=True),
    "distances": Regularizer(lambda loss: DistanceMatching(loss.scale_free), paired=True),
    "critical-edges": Regularizer(lambda loss: CriticalEdgeMatching(0, loss.scale_free), paired=True),
    "critical-edges-h1": Regularizer(lambda loss: CriticalEdgeMatching(1, loss.scale_free), paired=True),
    "energy": Regularizer(lambda loss: EnergyDistance(), one_space=True),
    "gaussian": Regularizer(lambda loss: NullReference(loss, "gaussian")),
    "shuffled": Regularizer(lambda loss: NullReference(loss, "shuffled")),
}
