"""The regularisers that a configuration can name: L_topo, and the controls that tell what of its effect is topology."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from topo_utils.topology.controls import (
    CodeRegression,
    CriticalEdgeMatching,
    DistanceMatching,
    EnergyDistance,
    NullReference,
)
from topo_utils.topology.loss import TopologicalLoss


@dataclass(frozen=True)
class Regularizer:
    """How a regulariser is made, and what it asks of the two clouds; each comparison of a family says what it offers.

    Attributes
    ----------
    make
        Gives the module, not yet calibrated, for the L_topo whose place it takes: one with the filtration, the weights and
        the scale of the configuration. The module has ``fit(reference)``, ``prepare(reference)`` and
        ``forward(reference, cloud)``, as :class:`~topo_utils.topology.TopologicalLoss` has.
    paired
        Whether point i of the cloud has to belong to point i of the reference.
    one_space
        Whether both clouds have to live in one space, at one scale.
    items
        Whether it can compare single items by their domain's filtration (the level ``sample``), not only clouds of items.
    """

    make: Callable[[TopologicalLoss], nn.Module]
    paired: bool = False
    one_space: bool = False
    items: bool = False


REGULARIZERS: dict[str, Regularizer] = {
    "topological": Regularizer(lambda loss: loss, items=True),
    "distances": Regularizer(lambda loss: DistanceMatching(loss.scale_free), paired=True),
    "critical-edges": Regularizer(lambda loss: CriticalEdgeMatching(0, loss.scale_free), paired=True),
    "critical-edges-h1": Regularizer(lambda loss: CriticalEdgeMatching(1, loss.scale_free), paired=True),
    "regressed-codes": Regularizer(lambda loss: CodeRegression(), paired=True),
    "energy": Regularizer(lambda loss: EnergyDistance(), one_space=True),
    "gaussian": Regularizer(lambda loss: NullReference(loss, "gaussian")),
    "shuffled": Regularizer(lambda loss: NullReference(loss, "shuffled")),
}
