"""What the benchmarks share: clouds, a step of the loss, turns, medians, a table and its provenance."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch

from topo_utils import paths
from topo_utils.topology import TopologicalLoss

CLOUDS = ("gaussian d=2", "gaussian d=8", "gaussian d=16", "noisy circle", "clusters")
SECONDS = 2.5  # time for one piece of work and library, at most; at least three rounds


def cloud(kind: str, n: int, seed: int) -> torch.Tensor:
    stream = np.random.default_rng(seed)
    if kind.startswith("gaussian"):
        points = stream.normal(size=(n, int(kind.split("=")[1])))
    elif kind == "noisy circle":
        angle = stream.uniform(0, 2 * np.pi, n)
        points = np.stack([np.cos(angle), np.sin(angle)], 1) + 0.1 * stream.normal(size=(n, 2))
    else:  # eight tight clusters in dimension 8
        points = stream.normal(size=(8, 8))[stream.integers(0, 8, n)] + 0.05 * stream.normal(size=(n, 8))
    return torch.from_numpy(points.astype(np.float32))


def loss_step(
    loss: TopologicalLoss, x: torch.Tensor, y: torch.Tensor, diagrams: Callable | None = None
) -> Callable[[], None]:
    """Forward and backward of L_topo, both clouds with their diagrams by ``diagrams``, and the same vectorisation."""

    def one(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return loss(diagrams(a), diagrams(b))

    def run() -> None:
        leaf = y.detach().requires_grad_()
        if diagrams is None:
            value = loss(x, leaf)
        elif leaf.ndim == 2:
            value = one(x, leaf)
        else:
            value = torch.stack([one(a, b) for a, b in zip(x, leaf, strict=True)]).mean()
        value.backward()
        assert leaf.grad is not None

    return run


def synchronised(function: Callable[[], None]) -> Callable[[], None]:
    def run() -> None:
        function()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return run


def measure(
    rows: list, work: str, functions: dict[str, Callable[[], object]], calls: int = 1, seconds: float = SECONDS
) -> None:
    """Time all functions in turn, several rounds; the first one is ours, and the others' ratios are to it."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        function()  # compiles, fills caches
    start = time.perf_counter()
    while time.perf_counter() - start < seconds * len(functions) / 2 and len(times[next(iter(times))]) < 50:
        for name, function in functions.items():
            before = time.perf_counter()
            function()
            times[name].append((time.perf_counter() - before) * 1000 / calls)
        if len(times[next(iter(times))]) >= 3 and time.perf_counter() - start > seconds * len(functions):
            break
    record(rows, work, times)


def record(rows: list, work: str, times: dict[str, list[float]]) -> None:
    """Print and keep the medians of the times in ms, and their ratios to the first one's."""
    medians = {name: statistics.median(values) for name, values in times.items()}
    ours = next(iter(medians.values()))
    print(f"\n{work}", flush=True)
    for name, median in medians.items():
        print(f"  {name:38} {median:10.3f} ms {median / ours:8.2f} ×", flush=True)
        rows.append(
            {"work": work, "library": name, "median_ms": median, "ratio": median / ours, "rounds": len(times[name])}
        )


def keep(name: str, rows: list, origin: dict[str, Any]) -> None:
    """Write the table and where it comes from."""
    with paths.atomic(paths.RESULTS / f"{name}.csv") as scratch:
        pd.DataFrame(rows).round(4).to_csv(scratch, index=False)
    with paths.atomic(paths.RESULTS / f"{name}.provenance.json") as scratch:
        scratch.write_text(json.dumps(origin, indent=2) + "\n")
