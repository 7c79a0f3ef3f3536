"""Points on manifolds whose topology is known: ``circle``, ``figure-eight``, ``torus``, ``swiss-roll``, ``spheres``.

An item is a point ``(d,)``: a sample of the manifold plus Gaussian noise; the sample itself is ``properties["clean"]``. The
domain of a data set knows its manifold: the Betti numbers, and the exact distance of any point to it.

``spheres`` is the benchmark of Moor, Horn, Rieck & Borgwardt, *Topological autoencoders*, ICML 2020: in R^101, ten spheres
S^100 of radius 5 in one of radius 25, which has as many points as the ten together. Here divided by 25.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import pad

from topo_utils.datasets._dataset import Dataset, Domain, Source
from topo_utils.seed import generator

if TYPE_CHECKING:
    from jaxtyping import Complex, Float
    from matplotlib.axes import Axes


class Manifold(ABC):
    """A closed set in R^d, made of one or several manifolds.

    Attributes
    ----------
    betti
        Its Betti numbers (β₀, β₁).
    view
        Projection to the plane in which it is drawn, ``(2, d)``.
    label
        What the label of a point says: its part.
    """

    betti: tuple[int, int]
    view: Float[Tensor, "2 d"]
    label = "part: there is only one"

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator) -> Float[Tensor, "n d"]:
        """Random points on it, without noise, uniform by length, area or volume."""

    @abstractmethod
    def distances(self, points: Float[Tensor, "n d"]) -> Float[Tensor, "n parts"]:
        """Distance of float64 points to each part."""

    def distance(self, points: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Distance of any points to the manifold, computed in float64 on the CPU, where it is exact.

        Raises
        ------
        ValueError
            The points do not lie in the manifold's space.
        """
        dimension = self.view.shape[1]
        if points.ndim != 2 or points.shape[1] != dimension:
            raise ValueError(f"points: wanted the shape (n, {dimension}), got {tuple(points.shape)}")
        return self.distances(points.cpu().double()).amin(1).to(points)


class Spheres(Manifold):
    """Spheres of dimension d - 1, circles in the plane; each is a part. ``weights`` are their shares of a sample."""

    def __init__(
        self, centres: Float[Tensor, "parts d"], radii: Float[Tensor, " parts"], weights: list[int], betti: tuple[int, int]
    ):
        self.centres, self.radii, self.betti = centres.double(), radii.double(), betti
        self.parts = torch.arange(len(weights)).repeat_interleave(torch.tensor(weights))
        dimension = centres.shape[1]
        if len(weights) > 1:
            self.label = "sphere: its number" if dimension > 2 else "circle: its number"
        self.view = torch.eye(2) if dimension == 2 else torch.linalg.svd(centres)[2][:2]  # where the centres differ most

    def sample(self, n: int, generator: torch.Generator) -> Float[Tensor, "n d"]:
        part = self.parts[torch.randperm(n, generator=generator) % len(self.parts)]
        direction = torch.randn(n, self.centres.shape[1], generator=generator, dtype=torch.float64)
        direction = direction / direction.norm(dim=1, keepdim=True)
        return (self.centres[part] + self.radii[part, None] * direction).float()

    def distances(self, points: Float[Tensor, "n d"]) -> Float[Tensor, "n parts"]:
        to_centres = torch.cdist(points, self.centres, compute_mode="donot_use_mm_for_euclid_dist")
        return (to_centres - self.radii).abs()


class Torus(Manifold):
    """A torus around the third axis: a tube of radius ``minor`` about a circle of radius ``major``."""

    betti = (1, 2)
    view = torch.tensor([[1.0, 0, 0], [0, 0.8, 0.6]])  # from above at an angle

    def __init__(self, major: float, minor: float):
        self.major, self.minor = major, minor

    def sample(self, n: int, generator: torch.Generator) -> Float[Tensor, "n d"]:
        tube = torch.empty(0, dtype=torch.float64)
        while len(tube) < n:  # the area of the torus at an angle of the tube grows with the distance to the axis
            angle = 2 * math.pi * torch.rand(n, generator=generator, dtype=torch.float64)
            keep = torch.rand(n, generator=generator) * (self.major + self.minor) < self.major + self.minor * angle.cos()
            tube = torch.cat([tube, angle[keep]])[:n]
        around = 2 * math.pi * torch.rand(n, generator=generator, dtype=torch.float64)
        radius = self.major + self.minor * tube.cos()
        return torch.stack([radius * around.cos(), radius * around.sin(), self.minor * tube.sin()], 1).float()

    def distances(self, points: Float[Tensor, "n d"]) -> Float[Tensor, "n 1"]:
        x, y, z = points[..., None].unbind(1)
        return (torch.hypot(torch.hypot(x, y) - self.major, z) - self.minor).abs()


class SwissRoll(Manifold):
    """The sheet (t cos t / 4.5π, y, t sin t / 4.5π) for 1.5π ≤ t ≤ 4.5π and |y| ≤ 0.75: its turns lie 0.44 apart.

    Distances are exact up to 1e-9, edges included: the sheet is the product of a spiral and an interval, and every local
    minimum of the distance along the spiral is searched to that precision.
    """

    betti = (1, 0)
    view = torch.tensor([[1.0, 0, 0], [0, 0, 1]])  # from the side, where the turns are seen
    first, last = 1.5 * math.pi, 4.5 * math.pi
    width = 1.5

    def sample(self, n: int, generator: torch.Generator) -> Float[Tensor, "n d"]:
        along, across = torch.rand(2, n, generator=generator, dtype=torch.float64)
        ends = self._length(torch.tensor([self.first, self.last], dtype=torch.float64))
        length = ends[0] + along * (ends[1] - ends[0])
        t = (2 * length).sqrt()  # Newton's method converges from here: the length is convex in t
        for _ in range(6):
            t = t - (self._length(t) - length) / (1 + t**2).sqrt()
        spiral = self._spiral(t)
        return torch.stack([spiral.real, self.width * (across - 0.5), spiral.imag], 1).float()

    def distances(self, points: Float[Tensor, "n d"]) -> Float[Tensor, "n 1"]:
        x, y, z = points.T
        to_spiral = torch.cat([self._to_spiral(some) for some in torch.complex(x, z).split(10_000)])
        return torch.hypot(to_spiral, (y.abs() - self.width / 2).clamp(min=0))[:, None]

    def _spiral(self, t: Float[Tensor, " n"]) -> Complex[Tensor, " n"]:
        """x + iz"""
        return torch.polar(t / self.last, t)

    @staticmethod
    def _length(t: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Arc length from t = 0, in units of 1/4.5π."""
        return (t * (1 + t**2).sqrt() + t.asinh()) / 2

    def _to_spiral(self, points: Complex[Tensor, " n"]) -> Float[Tensor, " n"]:
        steps = torch.linspace(self.first, self.last, 256, dtype=torch.float64)  # two minima lie many steps apart
        values = pad((points[:, None] - self._spiral(steps)).abs(), (1, 1), value=math.inf)
        of, step = ((values[:, 1:-1] <= values[:, :-2]) & (values[:, 1:-1] <= values[:, 2:])).nonzero().T
        low, high = steps[(step - 1).clamp(min=0)], steps[(step + 1).clamp(max=255)]
        for _ in range(60):  # cut off the third that cannot hold the minimum
            third = (high - low) / 3
            left, right = ((points[of] - self._spiral(t)).abs() for t in (low + third, high - third))
            low, high = low.where(left < right, low + third), high.where(left >= right, high - third)
        nearest = (points[of] - self._spiral(low)).abs()
        return torch.full(points.shape, math.inf, dtype=nearest.dtype).scatter_reduce(0, of, nearest, "amin")


class Points(Domain):
    """Points of R^d, each an item; only clouds of items have a shape, that of the ``manifold`` where one is known."""

    name = "points"
    label = "class"
    filtration = None

    def __init__(self, manifold: Manifold | None = None):
        self.manifold = manifold
        if manifold is not None:
            self.label = manifold.label

    def check(self, items: Tensor) -> str | None:
        if self.manifold is None:
            return None if items.ndim == 2 else f"wanted points (n, d), got {tuple(items.shape)}"
        wanted = self.manifold.view.shape[1]
        return None if items.shape[1:] == (wanted,) else f"wanted points (n, {wanted}), got {tuple(items.shape)}"

    def view(self, points: Float[Tensor, "n d"]) -> Float[Tensor, "n 2"]:
        """The plane in which points are drawn: the manifold's, or that of the first two coordinates."""
        points = points.detach().cpu()
        if self.manifold is not None:
            return points @ self.manifold.view.T
        return pad(points[:, :2], (0, max(0, 2 - points.shape[1])))

    def draw(self, axes: Axes, item: Float[Tensor, " d"]) -> None:
        """The point, large, in a sample of its manifold; see :meth:`view`."""
        if self.manifold is not None:
            sample = self.view(self.manifold.sample(1000, generator(0, "drawn")))
            axes.scatter(*sample.T, s=2, color="0.75", linewidths=0)
        axes.scatter(*self.view(item[None]).T, s=40, color="#D55E00", zorder=3)
        axes.set(xticks=[], yticks=[], aspect="equal")
        axes.grid(False)

    def outliers(self, items: Float[Tensor, "n d"], stream: torch.Generator) -> dict[str, Float[Tensor, "n d"]]:
        """``shuffled``; and ``off``: points moved in random directions, by a tenth of the cloud's standard deviation."""
        directions = torch.randn(items.shape, generator=stream)
        by = 0.1 * items.var(0).sum().sqrt() * directions / directions.norm(dim=1, keepdim=True)
        return {**super().outliers(items, stream), "off": items + by}

    def quality(self, samples: Float[Tensor, "m d"], data: Dataset, train: Dataset) -> dict[str, float]:
        """``off_manifold``: mean distance from the manifold, in the data's units; nothing where that is not known."""
        return {} if self.manifold is None else {"off_manifold": self.manifold.distance(samples).mean().item()}


class Sampled(Source):
    """Points of a manifold with Gaussian noise of standard deviation ``noise`` along each axis; a stream for each split."""

    licence = "generated by this project (MIT)"

    def __init__(self, name: str, what: str, manifold: Manifold, noise: float, sizes: Mapping[str, int], unit: float = 1.0):
        self.name, self.manifold, self.noise, self.sizes, self.unit = name, manifold, noise, sizes, unit
        self.domain = Points(manifold)
        self.summary = f"{sum(sizes.values()):,} points of {what}; noise {noise:g}; generated"

    def present(self, root: Path | None = None) -> bool:
        return True

    def load(self, split: str, root: Path | None = None) -> Dataset:
        clean = self.manifold.sample(self.sizes[split], generator(0, self.name, split))
        noise = torch.randn(clean.shape, generator=generator(0, self.name, split, "noise"))
        labels = self.manifold.distances(clean.double()).argmin(1)
        return Dataset(self.name, split, self.domain, clean + self.noise * noise, labels, {"clean": clean}, self.unit)


def _nested_spheres() -> Spheres:
    """The benchmark's spheres; the small ones' centres are drawn once, normal with deviation 10/√101 along each axis."""
    centres = torch.zeros(11, 101)
    centres[:10] = 10 / math.sqrt(101) * torch.randn(10, 101, generator=generator(0, "spheres", "centres"))
    return Spheres(centres / NESTED_UNIT, torch.tensor([5.0] * 10 + [25.0]) / NESTED_UNIT, [1] * 10 + [10], betti=(11, 0))


NESTED_UNIT = 25.0
SMALL = {"train": 5_000, "validation": 1_000, "test": 1_000, "judge": 1_000}
LARGE = {"train": 10_000, "validation": 2_000, "test": 2_000, "judge": 2_000}
CIRCLE = Spheres(torch.zeros(1, 2), torch.ones(1), [1], betti=(1, 1))
FIGURE_EIGHT = Spheres(torch.tensor([[-1.0, 0], [1, 0]]), torch.ones(2), [1, 1], betti=(1, 2))

SOURCES = (
    Sampled("circle", "the unit circle", CIRCLE, 0.05, SMALL),
    Sampled("figure-eight", "two unit circles that touch", FIGURE_EIGHT, 0.05, SMALL),
    Sampled("torus", "a torus of radii 1 and 0.5 in R^3", Torus(1, 0.5), 0.05, SMALL),
    Sampled("swiss-roll", "a Swiss roll of outer radius 1 in R^3", SwissRoll(), 0.02, SMALL),
    Sampled("spheres", "ten spheres S^100 inside another in R^101", _nested_spheres(), 0, LARGE, NESTED_UNIT),
)
