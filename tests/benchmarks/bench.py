"""How fast the topological core is, beside its peers: ``make bench``.

One process, one run: for each piece of work all libraries take turns on the same input, several rounds, and the median
of each counts. Only ratios travel from one machine to another. The table goes to ``data/results/benchmarks.csv``.
"""

from __future__ import annotations

import argparse
import functools
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import version

import gudhi
import gudhi.representations
import numpy as np
import oineus
import persim.landscapes
import torch
from gph import ripser_parallel
from graphs import bench_graphs, bench_landmarks, bench_large_clouds, bench_memory, draw_scaling
from gudhi.sklearn.rips_persistence import RipsPersistence
from ripser import ripser
from timing import CLOUDS, cloud, keep, loss_step, measure, record, synchronised
from torch_topological.nn import CubicalComplex, VietorisRipsComplex

from topo_utils import runs
from topo_utils.config import DiffusionConfig, VAEConfig
from topo_utils.datasets import REGISTRY, load
from topo_utils.models.features import initial_autoencoder
from topo_utils.topology import (
    Diagram,
    TopologicalLoss,
    knn,
    landscape,
    pairwise_distances,
    persistent_homology,
)
from topo_utils.topology._flag import pair
from topo_utils.topology.persistence import VERTEX, Pairing, gather
from topo_utils.training import fit

PEERS = ("ripser", "giotto-ph", "gudhi", "torch-topological", "oineus", "persim")


# --- pairing with critical edges -------------------------------------------------------------------------------------


def simplex_tree(weights: np.ndarray) -> object:
    """gudhi's simplex tree, edges collapsed, its fastest way to critical edges."""
    tree = gudhi.RipsComplex(distance_matrix=weights, max_edge_length=weights.max(1).min()).create_simplex_tree(1)
    tree.collapse_edges()
    tree.expansion(2)
    tree.compute_persistence()
    return tree.flag_persistence_generators()


def pairing_work() -> dict[str, Callable[[np.ndarray], object]]:
    rips = RipsPersistence([0, 1], input_type="lower distance matrix", n_jobs=1)
    return {
        "persistent_homology": lambda w: persistent_homology(torch.from_numpy(w)),
        "flag, the kernel alone": lambda w: pair(w[None]),
        "ripser (values only)": lambda w: ripser(w, distance_matrix=True, maxdim=1),
        "giotto-ph (values only)": lambda w: ripser_parallel(w, metric="precomputed", maxdim=1, n_threads=2),
        "giotto-ph": lambda w: ripser_parallel(w, metric="precomputed", maxdim=1, n_threads=2, return_generators=True),
        "gudhi RipsPersistence (values only)": lambda w: rips.fit_transform([w]),
        "gudhi SimplexTree": simplex_tree,
        "oineus (values only)": lambda w: oineus.compute_diagrams_vr(w.astype(np.float64), from_pwdists=True, max_dim=1),
    }


def bench_pairing(rows: list, sizes: tuple[int, ...]) -> None:
    for n in sizes:
        for kind in CLOUDS:
            inputs = [pairwise_distances(cloud(kind, n, seed)).numpy() for seed in range(3)]
            for weights in inputs:
                check_pairs(weights)
            work = pairing_work()
            if n > 128:
                del work["gudhi SimplexTree"]  # seconds a cloud
            measure(rows, f"pairing, n = {n}, {kind}", {name: on_all(f, inputs) for name, f in work.items()}, calls=3)


def bench_batch(rows: list) -> None:
    """A batch in one call, beside the peers' loops."""
    batch = pairwise_distances(torch.stack([cloud("gaussian d=8", 64, seed) for seed in range(64)]))
    inputs = list(batch.numpy())
    loops = {name: on_all(f, inputs) for name, f in pairing_work().items() if not name.startswith(("flag", "persistent"))}
    work = {"persistent_homology": functools.partial(persistent_homology, batch), **loops}
    measure(rows, "pairing, a batch of 64 clouds of 64 points, gaussian d=8", work)


def check_pairs(weights: np.ndarray) -> None:
    """What is timed is the same thing: the bars equal ripser's and giotto-ph's to the last float32 bit."""
    peers = {
        "ripser": ripser(weights, distance_matrix=True, maxdim=1)["dgms"],
        "giotto-ph": ripser_parallel(weights, metric="precomputed", maxdim=1)["dgms"],
    }
    values = weights.ravel()
    for dimension, (edges, _) in enumerate(pair(weights[None])):
        ours = np.where(edges[0] < 0, [0, np.inf], values[edges[0]])
        for name, diagrams in peers.items():
            theirs = diagrams[dimension][diagrams[dimension][:, 0] < diagrams[dimension][:, 1]].astype(np.float32)
            np.testing.assert_array_equal(sorted(map(tuple, ours)), sorted(map(tuple, theirs)), err_msg=name)


def on_all(function: Callable, inputs: list) -> Callable[[], None]:
    def run() -> None:
        for each in inputs:
            function(each)

    return run


# --- L_topo, forward and backward ------------------------------------------------------------------------------------


def pair_with_giotto(weights: np.ndarray) -> list[Pairing]:
    """Critical edges of one cloud by giotto-ph's generators."""
    n = len(weights)
    # with two threads, which is no faster here, the generators differ from one call to the next
    components, loops, *_ = ripser_parallel(weights, metric="precomputed", maxdim=1, n_threads=1, return_generators=True)[
        "gens"
    ]
    loops = loops[0] if len(loops) else np.empty((0, 4), int)
    births = np.stack([loops[:, 0] * n + loops[:, 1], loops[:, 2] * n + loops[:, 3]], axis=1)
    deaths = np.stack([np.full(len(components), VERTEX), components[:, 1] * n + components[:, 2]], axis=1)
    return [Pairing(cells[None], np.array([len(cells)])) for cells in (deaths, births)]


def diagrams_by_giotto(points: torch.Tensor) -> list[Diagram]:
    weights = pairwise_distances(points)
    return gather(weights.flatten(-2)[None], pair_with_giotto(weights.detach().numpy()), "drop")


def diagrams_by_torch_topological(points: torch.Tensor, complex_: VietorisRipsComplex) -> list[Diagram]:
    diagrams = [information.diagram for information in complex_(points)]
    return [Diagram(points, torch.ones(len(points), dtype=torch.bool)) for points in diagrams]


def bench_loss(rows: list) -> None:
    complex_ = VietorisRipsComplex(dim=1)
    peers = {
        "giotto-ph, our landscapes": diagrams_by_giotto,
        "torch-topological, our landscapes": functools.partial(diagrams_by_torch_topological, complex_=complex_),
        "ripser backend": ripser_backend,
    }
    for kind in CLOUDS:
        x, y = cloud(kind, 128, 0), cloud(kind, 128, 1)
        loss = TopologicalLoss().fit(x)
        check_equal(loss, x, y, peers)
        work = {"TopologicalLoss": loss_step(loss, x, y), **{name: loss_step(loss, x, y, f) for name, f in peers.items()}}
        measure(rows, f"L_topo forward + backward, n = 128, {kind}", work)
    x, y = (torch.stack([cloud("gaussian d=8", 64, 100 * side + seed) for seed in range(64)]) for side in range(2))
    loss = TopologicalLoss().fit(x)
    work = {"TopologicalLoss": loss_step(loss, x, y), **{name: loss_step(loss, x, y, f) for name, f in peers.items()}}
    measure(rows, "L_topo forward + backward, 64 clouds of 64 points", work)


def ripser_backend(points: torch.Tensor) -> list[Diagram]:
    return persistent_homology(pairwise_distances(points), backend="ripser")


def check_equal(loss: TopologicalLoss, x: torch.Tensor, y: torch.Tensor, peers: dict[str, Callable]) -> None:
    """What is timed is the same thing: all losses agree."""
    ours = loss(x, y)
    for name, diagrams in peers.items():
        theirs = loss(diagrams(x), diagrams(y))
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


# --- cubical, cost ---------------------------------------------------------------------------------------------------


def bench_cubical(rows: list) -> None:
    stream = np.random.default_rng(0)
    smooth = [gaussian_bumps(stream) for _ in range(128)]
    x, y = (torch.tensor(np.stack(part), dtype=torch.float32) for part in (smooth[:64], smooth[64:]))
    loss = TopologicalLoss(filtration="superlevel").fit(x)
    complex_ = CubicalComplex(superlevel=True, dim=2)
    # torch-topological 0.1.9 hands gudhi a tensor, which gudhi 3.11 and later refuse
    original = gudhi.CubicalComplex
    gudhi.CubicalComplex = lambda dimensions, top_dimensional_cells: original(
        dimensions=list(dimensions), top_dimensional_cells=np.asarray(torch.as_tensor(top_dimensional_cells).detach())
    )

    def diagrams(image: torch.Tensor) -> list[Diagram]:
        components, loops = (information.diagram for information in complex_(image))
        finite = components[:-1], loops  # the last component never dies; it ends at the darkest pixel there
        return [Diagram(bars, torch.ones(len(bars), dtype=torch.bool)) for bars in finite]

    check_equal(loss, x[0], y[0], {"torch-topological": diagrams})
    work = {"TopologicalLoss": loss_step(loss, x, y), "torch-topological, our landscapes": loss_step(loss, x, y, diagrams)}
    measure(rows, "cubical L_topo forward + backward, 64 images 28 × 28", work)
    gudhi.CubicalComplex = original


def gaussian_bumps(stream: np.random.Generator) -> np.ndarray:
    axis = np.arange(28)
    centres = stream.uniform(4, 24, (6, 2))
    bumps = np.exp(-((axis[:, None, None] - centres[:, 0]) ** 2 + (axis[None, :, None] - centres[:, 1]) ** 2) / 12)
    return bumps.sum(-1) + 0.01 * stream.random((28, 28))


def bench_cost(rows: list, sizes: tuple[int, ...]) -> None:
    for n in sizes:
        x, y = cloud("gaussian d=8", n, 0), cloud("gaussian d=8", n, 1)
        loss = TopologicalLoss().fit(x)
        work = {"rips": loss_step(loss, x, y)}
        for k in (4, 8, 16):
            near = TopologicalLoss(filtration="knn", k=k).fit(x)
            work[f"knn, k = {k}"] = loss_step(near, x, y)
        measure(rows, f"cost of L_topo forward + backward, n = {n}", work)
        distances = pairwise_distances(x)
        work = {"rips": functools.partial(persistent_homology, distances)}
        for k in (4, 8, 15, 16):
            work[f"knn, k = {k}"] = functools.partial(persistent_homology, knn(distances, k), essential="cap")
        measure(rows, f"cost of pairing, n = {n}", work)


# --- landscapes ------------------------------------------------------------------------------------------------------


def bench_landscapes(rows: list) -> None:
    batch = torch.stack([cloud("noisy circle", 64, seed) for seed in range(64)])
    diagram = persistent_homology(pairwise_distances(batch))[1]
    grid = torch.linspace(0, 2, 100)
    bars = [points[mask].double().numpy() for points, mask in zip(*diagram, strict=True)]
    theirs = gudhi.representations.Landscape(num_landscapes=5, resolution=100, sample_range=[0.0, 2.0], keep_endpoints=True)

    def by_persim() -> None:
        for each in bars:
            persim.landscapes.PersLandscapeApprox(
                start=0, stop=2, num_steps=100, dgms=[each], hom_deg=0
            ).compute_landscape()

    ours = landscape(diagram, grid, 5).flatten(1).numpy()
    np.testing.assert_allclose(ours, theirs.fit_transform(bars) / np.sqrt(2), atol=1e-5)
    work = {
        "landscape": lambda: landscape(diagram, grid, 5),
        "gudhi Landscape": lambda: theirs.fit_transform(bars),
        "persim PersLandscapeApprox": by_persim,
    }
    measure(rows, "landscapes of 64 diagrams, K = 5, 100 grid points", work)


# --- where a step of the regulariser spends its time ------------------------------------------------------------------


def bench_stages(rows: list) -> None:
    """The comparison ``reconstruction`` of one batch of 128 images, in two clouds of 64, K = 5; references are ready."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    train = load("mnist" if REGISTRY["mnist"].present() else "digits", "train").subset(1_000)
    network = initial_autoencoder(train, epochs=3).to(device)
    images = train.items[:256].to(device)

    def clouds(x: torch.Tensor) -> torch.Tensor:
        return network.features(x).view(2, 64, -1)

    with torch.no_grad():
        features, target = clouds(images[:128]), clouds(images[128:])
    loss = TopologicalLoss(levels=5).fit(features).to(device)
    references, on_host, found = loss.prepare(target), features.cpu(), loss.diagrams(features)
    host = pairwise_distances(on_host).numpy()

    def whole() -> None:
        loss(references, clouds(images[:128].requires_grad_())).backward()

    def vectors() -> None:
        loss(references, [Diagram(points.detach().requires_grad_(), mask) for points, mask in found]).backward()

    work = {
        "all of it, forward and backward": whole,
        "features, forward and backward": lambda: clouds(images[:128].requires_grad_()).sum().backward(),
        "transfer of the clouds to the host": features.cpu,
        "distances": lambda: pairwise_distances(on_host),
        "pairing": lambda: pair(host),
        "landscapes, their distance, its gradient": vectors,
    }
    measure(rows, f"where a step of L_topo goes, {train.name}, {device}", {k: synchronised(f) for k, f in work.items()})


# --- what an epoch costs ---------------------------------------------------------------------------------------------


def bench_epochs(rows: list, rounds: int) -> None:
    """Seconds an epoch with the regulariser and without, batch 128, H0 + H1, K = 5, of 100 batches of MNIST (or digits)."""
    name = "mnist" if REGISTRY["mnist"].present() else "digits"
    train, validation = (load(name, split) for split in ("train", "validation"))
    train, validation = train.subset(min(12_800, len(train))), validation.subset(200)
    features = initial_autoencoder(train, epochs=3)
    common = {"dataset": name, "levels": 5, "epochs": 2, "warmup": 0.0}
    vae, diffusion = VAEConfig(**common), DiffusionConfig(**common)
    work = {
        f"epoch of a VAE, {name}": {
            "VAE": vae,
            "TopoVAE, latent": vae.replace(gamma_latent=10.0),
            "TopoVAE, reconstruction": vae.replace(gamma_reconstruction=10.0),
            "TopoVAE, generated": vae.replace(gamma_generated=10.0),
        },
        f"epoch of a diffusion model, {name}": {
            "diffusion": diffusion,
            "TopoDiffusionLite": diffusion.replace(gamma_denoised=10.0),
        },
    }
    for title, configs in work.items():
        few = train if "VAE" in title else train.subset(min(2_560, len(train)))
        seconds: dict[str, list[float]] = {model: [] for model in configs}
        for _ in range(rounds):
            for model, config in configs.items():
                seconds[model] += fit(config, few, validation, features, progress="none").history["seconds"].tolist()
        record(rows, title, {model: [1000 * each for each in values] for model, values in seconds.items()})


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the topological core beside its peers.")
    parser.add_argument("--quick", action="store_true", help="small sizes, nothing written")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")  # the peers' remarks
    origin = runs.provenance()
    print(f"{origin['processor']}, {origin['cores']} cores; " + ", ".join(f"{peer} {version(peer)}" for peer in PEERS))
    rows: list[dict] = []
    bench_pairing(rows, (64,) if options.quick else (64, 128, 256, 512))
    bench_batch(rows)
    bench_loss(rows)
    bench_cubical(rows)
    bench_cost(rows, (32, 64) if options.quick else (32, 64, 128, 256, 512))
    bench_graphs(rows, (500, 1_000) if options.quick else (1_000, 3_000, 10_000, 50_000))
    bench_large_clouds(rows, (300,) if options.quick else (500, 1_000))
    bench_landmarks(rows, *((1_000, 100) if options.quick else (10_000, 500)))
    bench_memory(rows, (1_000,) if options.quick else (10_000, 50_000))
    bench_landscapes(rows)
    bench_stages(rows)
    bench_epochs(rows, 1 if options.quick else 3)
    if not options.quick:
        draw_scaling(rows)
        origin["packages"] |= {peer: version(peer) for peer in PEERS}
        keep("benchmarks", rows, origin)
    return 0


if __name__ == "__main__":
    sys.exit(main())
