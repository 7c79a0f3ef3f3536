"""A step of L_topo on a GPU beside the same step on the CPU, in one process: ``python tests/benchmarks/device.py``.

Clouds, distances, landscapes and gradients are on the device, the pairing is on the host. The table goes to
``data/results/benchmarks_gpu.csv``; it needs no peer.
"""

from __future__ import annotations

import sys

import torch
from timing import cloud, keep, loss_step, measure, synchronised

from topo_utils import runs
from topo_utils.topology import Diagram, TopologicalLoss, pairwise_distances
from topo_utils.topology._flag import pair
from topo_utils.topology.persistence import Pairing, gather

SHAPES = ((2, 64), (64, 64), (8, 128), (1, 512))
SECONDS = 1.0  # for one piece of work: a device is lent by the minute


def batch(clouds: int, n: int, side: int) -> torch.Tensor:
    return torch.stack([cloud("gaussian d=8", n, 1000 * side + seed) for seed in range(clouds)])


def bench_steps(rows: list, clouds: int, n: int) -> None:
    """Forward and backward, both sides' diagrams, and the parts of the step on the GPU."""
    x, y = batch(clouds, n, 0), batch(clouds, n, 1)
    loss = TopologicalLoss().fit(x)
    on_cpu = loss(x, y).item()
    steps = {"CPU": loss_step(loss, x, y)}
    there = TopologicalLoss().fit(x).to("cuda")
    x, y = x.cuda(), y.cuda()
    on_gpu = there(x, y).item()
    assert abs(on_gpu - on_cpu) <= 1e-4 * on_cpu, f"wanted the CPU's value, {on_cpu}, got {on_gpu}"
    steps["GPU"] = synchronised(loss_step(there, x, y))
    title = f"{clouds} clouds of {n} points"
    measure(rows, f"L_topo forward + backward, {title}", steps, seconds=SECONDS)
    weights = pairwise_distances(y)
    host, references, found = weights.cpu().numpy(), there.prepare(x), there.diagrams(y)
    pairings = [Pairing(*each) for each in pair(host, 1)]

    def vectors() -> None:
        there(references, [Diagram(points.detach().requires_grad_(), mask) for points, mask in found]).backward()

    flat = weights.flatten(-2)
    work = {
        "pairing, on the host": lambda: pair(host, 1),
        "distances": lambda: pairwise_distances(y),
        "transfer of the distances": weights.cpu,
        "critical edges' weights": lambda: gather(flat, pairings, "drop"),
        "landscapes, their distance, its gradient": vectors,
    }
    parts = {name: synchronised(each) for name, each in work.items()}
    measure(rows, f"parts of one side on the GPU, {title}", parts, seconds=SECONDS)


def main() -> int:
    if not torch.cuda.is_available():
        print("torch sees no CUDA device here: nothing is measured", file=sys.stderr)
        return 1
    origin, rows = runs.provenance(), []
    print(origin["device"], origin["processor"], f"{origin['cores']} cores")
    for shape in SHAPES:
        bench_steps(rows, *shape)
    keep("benchmarks_gpu", rows, origin)
    return 0


if __name__ == "__main__":
    sys.exit(main())
