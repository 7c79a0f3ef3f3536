"""Benchmarks of many points: neighbour graphs beside the peers' sparse input, dense clouds beyond a batch, memory."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

import gudhi
import matplotlib.pyplot as plt
import numpy as np
import torch
from gph import ripser_parallel
from ripser import ripser
from scipy import sparse
from timing import CLOUDS, cloud, measure

from topo_utils import paths, plots
from topo_utils.topology import Graph, max_min_landmarks, neighbour_graph, pairwise_distances, persistent_homology, rips

K = (10, 15, 50)


def bench_graphs(rows: list, sizes: tuple[int, ...]) -> None:
    """H0 and H1 of neighbour graphs; all have the edges already. Public calls on both sides.

    With more than 10,000 points ours alone: the others then take minutes a call.
    """
    for n in sizes:
        kinds = CLOUDS if n <= 10_000 else ("gaussian d=8",)
        for kind, k in (*((kind, 15) for kind in kinds), ("gaussian d=8", 10), ("gaussian d=8", 50)):
            graph = neighbour_graph(cloud(kind, n, 0), k)
            work = {"persistent_homology": functools.partial(persistent_homology, graph)}
            if n <= 10_000:
                matrix = as_matrix(graph)
                check_bars(graph, matrix)
                work["ripser (values only)"] = functools.partial(ripser, matrix, distance_matrix=True, maxdim=1)
                work["giotto-ph (values only)"] = functools.partial(
                    ripser_parallel, matrix, metric="precomputed", maxdim=1, n_threads=2
                )
            if n <= 1_000:
                work["gudhi SimplexTree, edges collapsed (values only)"] = functools.partial(by_edge_collapse, graph)
            measure(rows, f"graph of {k} neighbours, n = {n}, {len(graph.edges)} edges, {kind}", work)


def as_matrix(graph: Graph) -> sparse.csr_matrix:
    (i, j), values = graph.edges.numpy().T, graph.weights.numpy()
    both = np.concatenate([i, j]), np.concatenate([j, i])
    return sparse.coo_matrix((np.tile(values, 2), both), shape=(graph.points,) * 2).tocsr()


def check_bars(graph: Graph, matrix: sparse.csr_matrix) -> None:
    """What is timed is the same thing: the finite bars equal ripser's to the last float32 bit."""
    theirs = ripser(matrix, distance_matrix=True, maxdim=1)["dgms"]
    for ours, bars in zip(persistent_homology(graph), theirs, strict=True):
        bars = bars[np.isfinite(bars[:, 1]) & (bars[:, 0] < bars[:, 1])].astype(np.float32)
        np.testing.assert_array_equal(sorted(ours.points.tolist()), sorted(bars.tolist()))


def by_edge_collapse(graph: Graph) -> list[np.ndarray]:
    tree = collapsed(graph)
    tree.expansion(2)
    tree.compute_persistence(persistence_dim_max=False)
    return [tree.persistence_intervals_in_dimension(dimension) for dimension in (0, 1)]


def collapsed(graph: Graph) -> gudhi.SimplexTree:
    tree = gudhi.SimplexTree()
    tree.insert_batch(np.arange(graph.points)[None], np.zeros(graph.points))
    tree.insert_batch(graph.edges.numpy().T, graph.weights.double().numpy())
    tree.collapse_edges()
    return tree


def bench_large_clouds(rows: list, sizes: tuple[int, ...]) -> None:
    """All pairs of more points than a batch has. Is a collapse of edges before the pairing worth its time?"""
    giotto = functools.partial(ripser_parallel, metric="precomputed", maxdim=1, n_threads=2)
    for n in sizes:
        for kind in ("gaussian d=8", "noisy circle"):
            distances = pairwise_distances(cloud(kind, n, 0))
            i, j = np.triu_indices(n, 1)
            graph = Graph(torch.from_numpy(np.stack([i, j], 1)), distances[i, j], n)
            work = {
                "persistent_homology": functools.partial(persistent_homology, distances),
                "giotto-ph (values only)": functools.partial(giotto, distances.numpy()),
            }
            if n <= 1_000:
                work["gudhi collapse_edges alone"] = functools.partial(collapsed, graph)
            measure(rows, f"all pairs of {n} points, {kind}", work)


def bench_landmarks(rows: list, n: int, count: int) -> None:
    """Landmarks and the diagrams of their Rips filtration."""
    for kind in ("gaussian d=8", "noisy circle"):
        x = cloud(kind, n, 0)
        work = {
            "max_min_landmarks, rips": functools.partial(by_landmarks, x, count),
            "ripser, n_perm": functools.partial(ripser, x.numpy(), n_perm=count),
        }
        measure(rows, f"{count} landmarks of {n} points, {kind}", work)


def by_landmarks(x: torch.Tensor, count: int) -> list:
    return persistent_homology(rips(pairwise_distances(x[max_min_landmarks(x, count).indices])))


MEMORY = """
import re
from pathlib import Path
from topo_utils.topology import neighbour_graph, persistent_homology
import torch
def peak(): return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
persistent_homology(neighbour_graph(torch.randn(100, 8), 5))
before = peak()
cloud = torch.randn({n}, 8, generator=torch.Generator().manual_seed(0))
graph = neighbour_graph(cloud, {k})
found = peak()
persistent_homology(graph)
print(before, found, peak())
"""


def bench_memory(rows: list, sizes: tuple[int, ...], k: int = 15) -> None:
    """Peak of a process of its own, in MiB: with the packages, then after the search for neighbours and the pairing.

    Linux only: getrusage counts what the parent held when it forked.
    """
    if not Path("/proc/self/status").exists():
        print("peak memory: not measured here, it is read from /proc")
        return
    for n in sizes:
        output = subprocess.run(
            [sys.executable, "-c", MEMORY.format(n=n, k=k)], check=True, capture_output=True, text=True
        ).stdout
        work = f"peak memory, graph of {k} neighbours, n = {n}, gaussian d=8"
        for stage, value in zip(("packages", "neighbour_graph", "persistent_homology"), output.split(), strict=True):
            print(f"{work}: {stage} {float(value):.0f} MiB", flush=True)
            rows.append({"work": work, "library": stage, "peak_mib": float(value)})


def draw_scaling(rows: list) -> None:
    """Time against the number of edges, each library, each k; the slopes of log time in log edges are printed."""
    figure, axis = plt.subplots(figsize=(6.4, 4.2))
    libraries = ("persistent_homology", "ripser (values only)", "giotto-ph (values only)")
    for library, marker, colour in zip(libraries, "os^", plots.DIMENSION_COLOURS, strict=True):
        for k, style in zip(K, (":", "-", "--"), strict=True):
            points = [
                (int(row["work"].split(",")[2].split()[0]), row["median_ms"])
                for row in rows
                if row["work"].startswith(f"graph of {k} neighbours")
                and row["work"].endswith("gaussian d=8")
                and row["library"] == library
            ]
            edges, times = np.array(sorted(points)).T
            slope = np.polyfit(np.log(edges), np.log(times), 1)[0]
            print(f"{library}, k = {k}: time goes with edges to the power {slope:.2f}")
            axis.loglog(edges, times, style, marker=marker, color=colour, label=f"{library}, k = {k}: slope {slope:.2f}")
    axis.set(xlabel="edges", ylabel="ms", title="H0 and H1 of neighbour graphs, Gaussian points in dimension 8")
    axis.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1))  # beside it, where it hides no line
    with paths.atomic(paths.RESULTS / "benchmarks-graphs.png") as scratch:
        figure.savefig(scratch, format="png", dpi=150, bbox_inches="tight")
    plt.close(figure)
