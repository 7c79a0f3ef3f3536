"""Subgraphs of networks, sampled by random walks with restart."""

from __future__ import annotations

import random
from collections.abc import Mapping

import networkx as nx
import numpy as np

from topo_utils.datasets._isomorphism import IsomorphismClasses, canonical
from topo_utils.seed import derive

NODES = 32  # places for nodes in an item
SMALLEST = 8  # nodes of a sampled graph, at least
RESTART = 0.15  # as Leskovec & Faloutsos have it

Splits = dict[str, tuple[list[np.ndarray], np.ndarray]]  # adjacency matrices in canonical order, and their labels


def sampled(networks: Mapping[str, nx.Graph], sizes: Mapping[str, int]) -> Splits:
    """Subgraphs of the network of each split, none of them isomorphic; its nodes are pairs of a label and a name."""
    classes = IsomorphismClasses()
    return {
        part: _subgraphs(network, sizes[part], classes, random.Random(derive(0, "sample", part)))
        for part, network in networks.items()
    }


def _subgraphs(
    network: nx.Graph, size: int, classes: IsomorphismClasses, stream: random.Random
) -> tuple[list[np.ndarray], np.ndarray]:
    """So many subgraphs of new classes, in canonical order, and the labels of their seeds."""
    room = {node: len(part) for part in nx.connected_components(network) if len(part) >= SMALLEST for node in part}
    neighbours = {node: sorted(network[node]) for node in room}
    matrices, labels = [], []
    while True:
        before = len(matrices)
        for seed in stream.sample(sorted(room), len(room)):
            nodes = _walk(neighbours, seed, stream.randint(SMALLEST, min(NODES, room[seed])), stream)
            adjacency = canonical(np.array([[v in network[u] for v in nodes] for u in nodes], dtype=np.float32))
            known = len(classes)
            if classes.number(adjacency) == known:
                matrices.append(adjacency)
                labels.append(seed[0])
            if len(matrices) == size:
                return matrices, np.array(labels)
        if len(matrices) == before:
            raise ValueError(f"wanted {size:,} different graphs, got {before:,} from a network of {len(room):,} nodes")


def _walk(neighbours: Mapping, seed: tuple, size: int, stream: random.Random) -> list:
    """The first ``size`` nodes that a random walk with restart meets."""
    met, here = {seed: None}, seed  # a dict keeps their order
    while len(met) < size:
        here = seed if stream.random() < RESTART else stream.choice(neighbours[here])
        met[here] = None
    return list(met)
