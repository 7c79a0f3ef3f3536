"""Persistent homology of batches, differentiable: pure tensors, no model and no data set.

Distances -> edge weights -> diagrams -> vectors -> loss, one module each. Needs torch, numpy and numba; what calls
ripser, gudhi, persim or scipy imports it when it is called.
"""

from topo_utils.topology.betti import BettiLoss
from topo_utils.topology.controls import (
    CodeRegression,
    CriticalEdgeMatching,
    DistanceMatching,
    EnergyDistance,
    NullReference,
)
from topo_utils.topology.cubical import betti_numbers, cubical_persistence
from topo_utils.topology.distances import bottleneck, sliced_wasserstein, wasserstein
from topo_utils.topology.filtrations import Graph, knn, neighbour_graph, pairwise_distances, rips
from topo_utils.topology.landmarks import Landmarks, max_min_landmarks, witness
from topo_utils.topology.loss import TopologicalLoss
from topo_utils.topology.persistence import Diagram, persistent_homology
from topo_utils.topology.regularizers import REGULARIZERS, Regularizer
from topo_utils.topology.vectorize import (
    betti_curve,
    landscape,
    landscape_norm,
    persistence_entropy,
    persistence_image,
    silhouette,
    smooth_betti_curve,
)

__all__ = [
    "REGULARIZERS",
    "BettiLoss",
    "CodeRegression",
    "CriticalEdgeMatching",
    "Diagram",
    "DistanceMatching",
    "EnergyDistance",
    "Graph",
    "Landmarks",
    "NullReference",
    "Regularizer",
    "TopologicalLoss",
    "betti_curve",
    "betti_numbers",
    "bottleneck",
    "cubical_persistence",
    "knn",
    "landscape",
    "landscape_norm",
    "max_min_landmarks",
    "neighbour_graph",
    "pairwise_distances",
    "persistence_entropy",
    "persistence_image",
    "persistent_homology",
    "rips",
    "silhouette",
    "sliced_wasserstein",
    "smooth_betti_curve",
    "wasserstein",
    "witness",
]
