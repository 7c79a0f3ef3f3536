"""Persistent homology of batches, differentiable: pure tensors, no model and no data set.

Distances -> edge weights -> diagrams -> landscapes -> loss, one module each. Imports need torch and numpy alone.
"""

from topo_utils.topology.filtrations import knn, pairwise_distances, rips
from topo_utils.topology.loss import TopologicalLoss
from topo_utils.topology.persistence import Diagram, persistent_homology
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
    "Diagram",
    "TopologicalLoss",
    "betti_curve",
    "knn",
    "landscape",
    "landscape_norm",
    "pairwise_distances",
    "persistence_entropy",
    "persistence_image",
    "persistent_homology",
    "rips",
    "silhouette",
    "smooth_betti_curve",
]
