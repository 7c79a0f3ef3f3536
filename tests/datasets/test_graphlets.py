"""Places in small subgraphs, against networkx: every connected induced subgraph, and the orbits of its automorphisms."""

from __future__ import annotations

from itertools import combinations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networkx.algorithms.isomorphism import GraphMatcher

from topo_utils.datasets._graphlets import orbit_counts

PATH = ((0, 1), (1, 2), (2, 3))
# one of each connected graph on two to four nodes, and the orbits of its nodes as Pržulj numbers them
GRAPHLETS = [
    (((0, 1),), (0, 0)),
    (((0, 1), (1, 2)), (1, 2, 1)),
    (((0, 1), (1, 2), (2, 0)), (3, 3, 3)),
    (PATH, (4, 5, 5, 4)),
    (((0, 1), (0, 2), (0, 3)), (7, 6, 6, 6)),
    ((*PATH, (3, 0)), (8, 8, 8, 8)),
    (((0, 1), (1, 2), (2, 3), (3, 1)), (9, 11, 10, 10)),
    ((*PATH, (3, 0), (0, 2)), (13, 12, 13, 12)),
    (tuple(combinations(range(4), 2)), (14, 14, 14, 14)),
]


def by_isomorphism(graph):
    counts = np.zeros((len(graph), 15), int)
    known = [(nx.Graph(edges), orbits) for edges, orbits in GRAPHLETS]
    for size in (2, 3, 4):
        for nodes in combinations(graph, size):
            part = graph.subgraph(nodes)
            if not nx.is_connected(part):
                continue
            for small, orbits in known:
                matcher = GraphMatcher(part, small)
                if len(small) == size and matcher.is_isomorphic():
                    for node, place in matcher.mapping.items():
                        counts[node, orbits[place]] += 1
    return counts


@given(st.integers(0, 10_000), st.integers(1, 8), st.sampled_from([0.2, 0.5, 0.8]))
def test_every_place_is_counted_as_networkx_finds_it(seed, nodes, density):
    graph = nx.gnp_random_graph(nodes, density, seed=seed)
    found = orbit_counts(nx.to_numpy_array(graph).astype(bool))
    assert np.array_equal(found, by_isomorphism(graph))


def test_the_first_ones_are_known_numbers():
    graph = nx.gnp_random_graph(32, 0.3, seed=1)
    found = orbit_counts(nx.to_numpy_array(graph).astype(bool))
    assert found[:, 0].tolist() == [d for _, d in graph.degree]
    assert found[:, 3].tolist() == list(nx.triangles(graph).values())
    assert found.sum(0)[14] == 4 * sum(len(c) == 4 for c in nx.enumerate_all_cliques(graph))


@pytest.mark.parametrize(("edges", "orbits"), GRAPHLETS)
def test_orbits_are_those_of_the_automorphisms(edges, orbits):
    graph = nx.Graph(edges)
    for i, j in combinations(graph, 2):
        same = any(m[i] == j for m in GraphMatcher(graph, graph).isomorphisms_iter())
        assert same == (orbits[i] == orbits[j])
