"""What makes a good sample in each domain, measured without a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import networkx as nx
import torch
from scipy.stats import wasserstein_distance
from torch import Tensor

from topo_utils.datasets import Dataset, molecules

if TYPE_CHECKING:
    from jaxtyping import Float


def sample_quality(samples: Float[Tensor, "m ..."], data: Dataset, train: Dataset) -> dict[str, float]:
    """Metrics of generated items that only their own domain has; none for images.

    Parameters
    ----------
    samples
        Generated items, in the form of the data; probabilities are rounded as the domain says.
    data, train
        Real items to compare with, and those that the model was trained on.

    Returns
    -------
    dict
        Molecules: ``valid``, ``unique`` and ``novel`` (shares; no repair of any kind). Proteins: ``bond_error`` and
        ``nearest_rmsd`` in Å. Graphs: ``connected`` (share), ``degree_distance`` and ``clustering_distance``. Points:
        ``off_manifold``, in the data's units.
    """
    measures = {"molecules": _molecules, "proteins": _proteins, "graphs": _graphs, "points": _points}
    measure = measures.get(data.domain.name)
    return {} if measure is None else measure(samples.detach().cpu(), data, train)


def _molecules(samples: Tensor, data: Dataset, train: Dataset) -> dict[str, float]:
    """Valid: RDKit sanitises it and it is one piece. Unique: of the valid ones. Novel: of the unique ones."""
    smiles = [molecules.to_smiles(item) for item in samples]
    valid = [each for each in smiles if each is not None]
    different = set(valid)
    known = {item.numpy().tobytes() for item in train.items}
    novel = sum(molecules.from_smiles(each).numpy().tobytes() not in known for each in different)
    return {
        "valid": len(valid) / len(samples),
        "unique": len(different) / max(1, len(valid)),
        "novel": novel / max(1, len(different)),
    }


def _proteins(samples: Tensor, data: Dataset, train: Dataset) -> dict[str, float]:
    """Bonds: neighbours along the chain, against the mean length of each in the training frames."""

    def bonds(traces: Tensor) -> Tensor:
        return traces.diff(dim=1).norm(dim=2) * data.unit

    error = (bonds(samples) - bonds(train.items).mean(0)).abs().mean()
    nearest = torch.cdist(samples.flatten(1), train.items.flatten(1)).amin(1).mean()
    return {"bond_error": error.item(), "nearest_rmsd": nearest.item() / samples.shape[1] ** 0.5 * data.unit}


def _graphs(samples: Tensor, data: Dataset, train: Dataset) -> dict[str, float]:
    """Distances are 1-Wasserstein, between all degrees and all clustering coefficients of generated and real nodes."""
    made, real = ([_graph(item) for item in items] for items in (samples, data.items))
    statistics = {
        "degree_distance": lambda graph: [degree for _, degree in graph.degree],
        "clustering_distance": lambda graph: list(nx.clustering(graph).values()),
    }
    distances = {
        name: wasserstein_distance(*([v for graph in graphs for v in values(graph)] or [0] for graphs in (made, real)))
        for name, values in statistics.items()
    }
    return {
        "connected": sum(len(g) > 1 and nx.is_connected(g) for g in made) / len(made),
        **{k: float(v) for k, v in distances.items()},
    }


def _graph(item: Tensor) -> nx.Graph:
    """Nodes without an edge are absent."""
    graph = nx.from_numpy_array((item > 0.5).int().numpy())
    graph.remove_nodes_from(list(nx.isolates(graph)))
    return graph


def _points(samples: Tensor, data: Dataset, train: Dataset) -> dict[str, float]:
    return {"off_manifold": data.domain.manifold.distance(samples).mean().item()}
