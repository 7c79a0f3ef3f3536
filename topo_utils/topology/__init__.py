"""Persistent homology of batches, differentiable: pure tensors, no model and no data set.

Distances -> edge weights -> diagrams -> landscapes -> loss, one module each. Imports need torch and numpy alone.
"""

from topo_utils.topology.filtrations import knn, pairwise_distances, rips
from topo_utils.topology.loss import TopologicalLoss
from topo_utils.topology.persistence import Diagram, persistent_homology
from topo_utils.topology.vectorize import landscape

__all__ = ["Diagram", "TopologicalLoss", "knn", "landscape", "pairwise_distances", "persistent_homology", "rips"]
