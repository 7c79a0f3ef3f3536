"""Social graphs of at most 32 nodes: ``social`` (embedded), ``ego-facebook``, ``email-eu-core`` and ``imdb-binary``.

An item is an adjacency matrix (32, 32) of zeros and ones. The first three sources sample subgraphs of larger networks by a
**random walk with restart** (Leskovec & Faloutsos, *Sampling from large graphs*, KDD 2006): from a seed node the walk goes
to a random neighbour, or with probability 0.15 back to the seed, until it has met as many nodes as were drawn for it,
uniformly from 8 to 32 (or to the size of the seed's component). The item is the subgraph that these nodes induce, so
triangles stay. Every node in a component of 8 nodes or more is a seed in turn, in random order, again and again until the
split is full.

No graph is in two splits. Networks of different splits have no node in common; of isomorphic graphs a sampled set keeps the
first, train before validation before test; isomorphic graphs of ``imdb-binary`` go to the same split.

The order of the nodes is breadth-first from a node of highest degree, as You et al., *GraphRNN*, ICML 2018, have it; see
:mod:`topo_utils.datasets._isomorphism`. Absent nodes are zero rows at the end.
"""

from __future__ import annotations

import hashlib
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import networkx as nx
import numpy as np
import torch
from scipy.stats import wasserstein_distance
from torch import Tensor

from topo_utils.datasets._dataset import Dataset, Domain, Source, mixed, share, shuffled
from topo_utils.datasets._files import cached, code
from topo_utils.datasets._graphlets import orbit_counts
from topo_utils.datasets._isomorphism import IsomorphismClasses, canonical
from topo_utils.datasets._published import Published
from topo_utils.datasets._walks import NODES, Splits, sampled
from topo_utils.seed import derive
from topo_utils.topology import persistent_homology

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from matplotlib.axes import Axes


class Graphs(Domain):
    """Adjacency matrices ``(32, 32)``: symmetric, 0 or 1, zero on the diagonal; absent nodes are zero rows at the end.

    In their place a model may give probabilities: :meth:`cloud` takes them as they are, :meth:`betti` and :meth:`draw`
    round them at 0.5. A node without an edge counts as absent.

    In an item's filtration its edges enter at 1 and all others at 2, where everything is filled. A loop of the clique
    complex is then a bar (1, 2) of H1. Absent nodes are components of their own until 2, and have no part in loops.
    """

    name = "graphs"
    label = "what the graph is from: a network, an ego network, a department, a class of films"
    filtration = "graph"

    def check(self, items: Tensor) -> str | None:
        if items.shape[1:] != (NODES, NODES):
            return f"wanted adjacency matrices ({NODES}, {NODES}), got items {tuple(items.shape[1:])}"
        present = items.any(-1)
        broken = {
            "0 and 1 alone": (items != 0) & (items != 1),
            "symmetric matrices": items != items.mT,
            "zeros on the diagonal": items.diagonal(dim1=-2, dim2=-1) != 0,
            "absent nodes (zero rows) at the end": present[:, 1:] > present[:, :-1],
        }
        for wanted, where in broken.items():
            if where.any():
                return f"wanted {wanted}, got something else in item {int(where.flatten(1).any(1).nonzero()[0])}"
        return None

    def cloud(self, items: Float[Tensor, "batch n n"]) -> Float[Tensor, "batch n n"]:
        """Edge weights 2 - p, where p is the entry of the matrix, made symmetric; 0 on the diagonal."""
        return (2 - (items + items.mT) / 2).masked_fill(_diagonal(items), 0)

    def betti(self, items: Float[Tensor, "batch n n"]) -> Int[Tensor, "batch 2"]:
        """Number of components, absent nodes left out, and β₁ of the clique complex; (0, 0) where there is no edge."""
        edges = _edges(items)
        components, loops = persistent_homology(self.cloud(edges.float()), essential="drop")
        merges = ((components.points[..., 1] == 1) & components.mask).sum(-1)
        return torch.stack([edges.any(-1).sum(-1) - merges, loops.mask.sum(-1)], dim=-1)

    def draw(self, axes: Axes, item: Float[Tensor, "n n"]) -> None:
        """The graph, laid out by its distances (Kamada & Kawai, 1989), the nodes coloured by degree, dark to light."""
        graph = _graph(item)
        lengths = dict(nx.all_pairs_shortest_path_length(graph))
        apart = max((max(near.values()) for near in lengths.values()), default=0) + 1  # components stay close together
        places = nx.kamada_kawai_layout(graph, {node: dict.fromkeys(graph, apart) | near for node, near in lengths.items()})
        degrees = [degree for _, degree in graph.degree]
        nx.draw_networkx_edges(graph, places, ax=axes, edge_color="0.6", width=0.7)
        nx.draw_networkx_nodes(graph, places, ax=axes, node_size=24, node_color=degrees, cmap="viridis")
        axes.set_aspect("equal")
        axes.axis("off")

    def statistics(self, items: Float[Tensor, "n k k"]) -> dict[str, Float[Tensor, "n bins"]]:
        """``degree``: of the nodes that have an edge, 1 to k - 1; ``clustering``: of their clustering coefficients, in ten
        bins; ``orbit``: of their places in connected subgraphs of two to four nodes (15 of them). Of a graph without an
        edge, uniform.
        """
        return {
            "degree": _histograms(items, lambda graph: [d for _, d in graph.degree], items.shape[1] - 1, 1),
            "clustering": _histograms(items, lambda graph: [round(9 * c) for c in nx.clustering(graph).values()], 10, 0),
            "orbit": _shares(torch.from_numpy(np.stack([orbit_counts(e).sum(0) for e in _edges(items).cpu().numpy()]))),
        }

    def outliers(self, items: Float[Tensor, "n k k"], stream: torch.Generator) -> dict[str, Float[Tensor, "n k k"]]:
        """``shuffled``: each pair of places is joined as in another graph."""
        upper = torch.triu(shuffled(items.flatten(1), stream).view_as(items), 1)
        return {"shuffled": upper + upper.mT}

    def quality(self, samples: Float[Tensor, "m n n"], data: Dataset, train: Dataset) -> dict[str, float]:
        """``connected``: share of the graphs; ``degree_distance`` and ``clustering_distance``: 1-Wasserstein, between all
        degrees and all clustering coefficients of generated and of real nodes.
        """
        made, real = ([_graph(item) for item in items] for items in (samples, data.items))
        degrees, clustering = (
            [[value for graph in graphs for value in values(graph)] or [0] for graphs in (made, real)]
            for values in (lambda graph: dict(graph.degree).values(), lambda graph: nx.clustering(graph).values())
        )
        return {
            "connected": sum(len(graph) > 1 and nx.is_connected(graph) for graph in made) / len(made),
            "degree_distance": float(wasserstein_distance(*degrees)),
            "clustering_distance": float(wasserstein_distance(*clustering)),
        }


DOMAIN = Graphs()


def _diagonal(items: Tensor) -> Bool[Tensor, "n n"]:
    return torch.eye(items.shape[-1], dtype=torch.bool, device=items.device)


def _edges(items: Float[Tensor, "*batch n n"]) -> Bool[Tensor, "*batch n n"]:
    """Where there is an edge, after rounding."""
    return ((items + items.mT).detach() / 2 > 0.5) & ~_diagonal(items)


def _graph(item: Float[Tensor, "n n"]) -> nx.Graph:
    """The graph after rounding; nodes without an edge are absent."""
    graph = nx.from_numpy_array(_edges(item).cpu().numpy())
    graph.remove_nodes_from(list(nx.isolates(graph)))
    return graph


def _histograms(
    items: Float[Tensor, "n k k"], values: Callable[[nx.Graph], list[int]], bins: int, first: int
) -> Float[Tensor, "n bins"]:
    """Of whole numbers of each graph's nodes, from the first one on."""
    return _shares(
        torch.stack(
            [
                torch.bincount(torch.tensor(values(_graph(item)), dtype=torch.int64) - first, minlength=bins)
                for item in items
            ]
        )
    )


def _shares(counts: Int[Tensor, "n bins"]) -> Float[Tensor, "n bins"]:
    """Each row over its sum; uniform where that is nothing."""
    counts = torch.where(counts.any(1, keepdim=True), counts, 1).float()
    return counts / counts.sum(1, keepdim=True)


def _dataset(source: Source, split: str, content: str, make: Callable[[], Splits]) -> Dataset:
    """A split of what ``make`` gives, made once and then cached; ``content`` names what it is made of."""

    def made() -> dict[str, np.ndarray]:
        arrays = {}
        for part, (matrices, labels) in make().items():
            items = np.zeros((len(matrices), NODES, NODES), dtype=np.uint8)
            for item, adjacency in zip(items, matrices, strict=True):
                item[: len(adjacency), : len(adjacency)] = adjacency
            arrays |= {f"{part}/items": items, f"{part}/labels": labels.astype(np.int64)}
        return arrays

    key = hashlib.sha256((content + code(Graphs, sampled, canonical, share, derive)).encode()).hexdigest()[:8]
    arrays = cached(f"{source.name}-{key}", made)
    items = torch.from_numpy(arrays[f"{split}/items"]).float()
    nodes = items.any(-1).sum(-1)
    return Dataset(source.name, split, DOMAIN, items, torch.from_numpy(arrays[f"{split}/labels"]), {"nodes": nodes})


# The data sets


class Social(Source):
    """Sampled from the four social networks that networkx ships; the labels number them in this order.

    Train: 0, the characters of *Les Misérables* (Knuth, 1993), and 1, the women of Natchez with the events that they
    attended (Davis, Gardner & Gardner, 1941; bipartite, so without triangles). Validation: 2, families of Florence
    (Breiger & Pattison, 1986). Test: 3, the karate club (Zachary, 1977).
    """

    name = "social"
    domain = DOMAIN
    summary = "1,300 subgraphs of four small social networks in the package networkx; no download"
    licence = "BSD-3-Clause (networkx)"
    splits = ("train", "validation", "test")
    sizes = {"train": 1_000, "validation": 100, "test": 200}
    makers = (nx.les_miserables_graph, nx.davis_southern_women_graph, nx.florentine_families_graph, nx.karate_club_graph)
    parts = {"train": (0, 1), "validation": (2,), "test": (3,)}

    def present(self, root: Path | None = None) -> bool:
        return True

    def networks(self) -> dict[str, nx.Graph]:
        """The network of each split; its nodes are (label, name)."""
        named = [nx.relabel_nodes(make(), lambda node, n=n: (n, node)) for n, make in enumerate(self.makers)]
        return {part: nx.union_all([named[n] for n in numbers]) for part, numbers in self.parts.items()}

    def load(self, split: str, root: Path | None = None) -> Dataset:
        return _dataset(self, split, nx.__version__, lambda: sampled(self.networks(), self.sizes))


class EgoFacebook(Published):
    """Sampled from the friendships among the friends of ten Facebook users (McAuley & Leskovec, NIPS 2012).

    The ego itself, a friend of all, is left out, as in the publisher's files: with it every clique complex would be a cone
    and have no loop. The label of an item is its ego network, 0 to 9 in the order of the egos' numbers. Some people are in
    more networks than one: in validation and test, those of an earlier split are left out.
    """

    name = "ego-facebook"
    domain = DOMAIN
    summary = "5,000 subgraphs of ten Facebook ego networks, 4,039 people"
    licence = "none stated by the publisher (SNAP); anonymised, cite McAuley & Leskovec"
    splits = ("train", "validation", "test")
    sizes = {"train": 4_000, "validation": 500, "test": 500}
    egos = {"train": (107, 348, 414, 1684, 1912), "validation": (686, 698), "test": (0, 3437, 3980)}
    file = "ego_facebook_10egos.npz"
    urls = ("https://snap.stanford.edu/data/facebook.tar.gz",)
    sha256 = "8309fe3b449bbc2cb73fc2d46724337834a0dc71ee7dc23a76f16791f2b3e85d"

    def tidy(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """``ego_ids``; of each ego its friends, ``ego<id>_nodes``, and the edges among them, ``ego<id>_edges`` (m, 2)."""
        egos = np.sort(arrays["ego_ids"])
        edges = {f"ego{ego}_edges": np.unique(np.sort(arrays[f"ego{ego}_edges"], axis=1), axis=0) for ego in egos}
        return {"ego_ids": egos, **edges, **{f"ego{ego}_nodes": np.unique(arrays[f"ego{ego}_nodes"]) for ego in egos}}

    def parse(self, archive: Path) -> dict[str, np.ndarray]:
        """Of each ego ``facebook/<id>.edges``, a pair of friends a line, and the first column of ``facebook/<id>.feat``."""
        egos = sum(self.egos.values(), ())
        arrays = {"ego_ids": np.array(egos)}
        with tarfile.open(archive) as members:
            for ego in egos:
                arrays[f"ego{ego}_edges"] = _numbers(members.extractfile(f"facebook/{ego}.edges"))
                arrays[f"ego{ego}_nodes"] = _numbers(members.extractfile(f"facebook/{ego}.feat"), usecols=[0])
        return arrays

    def networks(self, arrays: Mapping[str, np.ndarray]) -> dict[str, nx.Graph]:
        """The network of each split; its nodes are (label, number of the person)."""
        labels = {ego: label for label, ego in enumerate(arrays["ego_ids"].tolist())}
        networks, met = {}, np.array([], dtype=int)
        for part, egos in self.egos.items():
            networks[part] = nx.Graph()
            for ego in egos:
                edges = arrays[f"ego{ego}_edges"]
                new = edges[~np.isin(edges, met).any(1)].tolist()
                networks[part].add_edges_from(((labels[ego], a), (labels[ego], b)) for a, b in new)
            met = np.concatenate([met, egos, *(arrays[f"ego{ego}_nodes"] for ego in egos)])
        return networks

    def load(self, split: str, root: Path | None = None) -> Dataset:
        arrays = self.arrays(root)
        return _dataset(self, split, self.sha256, lambda: sampled(self.networks(arrays), self.sizes))


class EmailEuCore(Published):
    """Sampled from who wrote to whom in a European research institution (Yin et al., KDD 2017; Leskovec et al., 2007).

    Undirected: an edge is an e-mail in either direction. The departments are shared out to the splits, and a split has the
    network within its departments. The label of an item is the department of its seed, 0 to 41.
    """

    name = "email-eu-core"
    domain = DOMAIN
    summary = "3,000 subgraphs of the e-mails in a research institution, 1,005 people"
    licence = "none stated by the publisher (SNAP); anonymised, cite Yin et al. and Leskovec et al."
    splits = ("train", "validation", "test")
    sizes = {"train": 2_000, "validation": 500, "test": 500}
    departments = {"train": 28, "validation": 7, "test": 7}
    file = "email_eu_core.npz"
    urls = (
        "https://snap.stanford.edu/data/email-Eu-core.txt.gz",
        "https://snap.stanford.edu/data/email-Eu-core-department-labels.txt.gz",
    )
    sha256 = "0890ea34f2c502efe553858539ef1b4488684216a042e171de80103e28cc6bd1"

    def tidy(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """``edges_directed`` (m, 2), sender and receiver; ``department`` (n,), of each person."""
        return {"edges_directed": np.unique(arrays["edges_directed"], axis=0), "department": arrays["department"]}

    def parse(self, emails: Path, departments: Path) -> dict[str, np.ndarray]:
        """A line is a sender and a receiver in the one file, a person and the department in the other."""
        people = _numbers(departments)
        return {"edges_directed": _numbers(emails), "department": people[people[:, 0].argsort(), 1]}

    def networks(self, arrays: Mapping[str, np.ndarray]) -> dict[str, nx.Graph]:
        """The network of each split; its nodes are (department, number of the person)."""
        edges, department = arrays["edges_directed"], arrays["department"]
        networks = {}
        for part in self.departments:
            mine = share(np.unique(department), self.departments, part)
            within = np.isin(department[edges], mine).all(1) & (edges[:, 0] != edges[:, 1])
            pairs = np.stack([department[edges], edges], axis=-1)[within].tolist()
            networks[part] = nx.Graph([(tuple(a), tuple(b)) for a, b in pairs])
        return networks

    def load(self, split: str, root: Path | None = None) -> Dataset:
        arrays = self.arrays(root)
        return _dataset(self, split, self.sha256, lambda: sampled(self.networks(arrays), self.sizes))


class ImdbBinary(Published):
    """Whole graphs of at most 32 nodes: who acted with whom, around one actor (Yanardag & Vishwanathan, KDD 2015).

    The label is the genre of the films, 0 or 1; they are action and romance, in an order that the publisher does not state.
    Every graph holds its actor, a neighbour of all others, so that its clique complex is a cone: one component, no loop.
    Many of the graphs are isomorphic (Ivanov et al., arXiv:1910.12091), also across the two labels: isomorphic ones go to
    the same split, where they all stay.
    """

    name = "imdb-binary"
    domain = DOMAIN
    summary = "914 graphs of actors who acted together, two genres"
    licence = "none stated by the publisher (TUDataset); cite Yanardag & Vishwanathan and Morris et al."
    sizes = {"train": 500, "validation": 100, "test": 150, "judge": 164}  # roughly: classes are not divided
    file = "IMDBBINARY.npz"
    urls = ("https://www.chrsmrrs.com/graphkerneldatasets/IMDB-BINARY.zip",)
    sha256 = "1be74b53649dd98ca94794c020a919629b5c3b4fddbdc418131abbc62fe82299"

    def tidy(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Of each graph ``n_nodes``, ``n_edges`` and class ``y``; ``edges`` (m, 2) of one after the other, nodes from 0."""
        graph = np.arange(len(arrays["n_edges"])).repeat(arrays["n_edges"])
        edges = np.unique(np.column_stack([graph, np.sort(arrays["edges"], axis=1)]), axis=0)
        n_edges = np.bincount(edges[:, 0], minlength=len(arrays["n_edges"]))
        return {"n_nodes": arrays["n_nodes"], "n_edges": n_edges, "edges": edges[:, 1:], "y": arrays["y"]}

    def parse(self, archive: Path) -> dict[str, np.ndarray]:
        """``_A.txt``: two nodes a line, counted over all graphs from 1; the graph of each node; the label of each graph."""
        with zipfile.ZipFile(archive) as members:
            edges, graph, labels = (
                _numbers(members.open(f"IMDB-BINARY/IMDB-BINARY_{part}.txt"), delimiter=",") - first
                for part, first in (("A", 1), ("graph_indicator", 1), ("graph_labels", 0))
            )
        graph, labels = graph[:, 0], labels[:, 0]
        n_nodes = np.bincount(graph, minlength=len(labels))
        edges = edges[graph[edges[:, 0]].argsort(kind="stable")]
        of = graph[edges[:, 0]]
        edges -= (n_nodes.cumsum() - n_nodes)[of][:, None]
        return {"n_nodes": n_nodes, "n_edges": np.bincount(of, minlength=len(labels)), "edges": edges, "y": labels}

    def split(self, arrays: Mapping[str, np.ndarray]) -> Splits:
        """The graphs of each split, isomorphic ones in the same."""
        edges = np.split(arrays["edges"], arrays["n_edges"].cumsum()[:-1])
        small = np.flatnonzero(arrays["n_nodes"] <= NODES)
        matrices = [canonical(_adjacency(arrays["n_nodes"][n], edges[n])) for n in small]
        classes = IsomorphismClasses()
        groups = np.array([classes.number(matrix) for matrix in matrices])
        splits = {}
        for part in self.splits:
            chosen = _share_of_groups(groups, self.sizes, part)
            chosen = chosen[mixed(len(chosen)).numpy()]
            splits[part] = [matrices[n] for n in chosen], arrays["y"][small[chosen]]
        return splits

    def load(self, split: str, root: Path | None = None) -> Dataset:
        arrays = self.arrays(root)
        return _dataset(self, split, self.sha256, lambda: self.split(arrays))


def _adjacency(nodes: int, edges: np.ndarray) -> np.ndarray:
    adjacency = np.zeros((nodes, nodes), dtype=np.float32)
    adjacency[edges[:, 0], edges[:, 1]] = adjacency[edges[:, 1], edges[:, 0]] = 1
    return adjacency


def _share_of_groups(groups: np.ndarray, sizes: Mapping[str, int], split: str) -> np.ndarray:
    """As :func:`share`, but items of the same group stay together, so that the sizes are met but roughly."""
    order = np.random.default_rng(derive(0, "split")).permutation(groups.max() + 1)
    counts = np.bincount(groups)[order]
    starts = counts.cumsum() - counts
    first = sum(size for name, size in list(sizes.items())[: list(sizes).index(split)])
    return np.flatnonzero(np.isin(groups, order[(first <= starts) & (starts < first + sizes[split])]))


def _numbers(source, **options) -> np.ndarray:
    """Whole numbers in a text, a row a line."""
    return np.loadtxt(source, dtype=np.int64, ndmin=2, **options)


SOURCES = (Social(), EgoFacebook(), EmailEuCore(), ImdbBinary())
