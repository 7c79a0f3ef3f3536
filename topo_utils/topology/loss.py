"""The topological regulariser L_topo."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from topo_utils.topology.checks import check_count, check_finite, check_option, check_positive, check_weights, checked
from topo_utils.topology.cubical import cubical_persistence
from topo_utils.topology.filtrations import euclidean, knn
from topo_utils.topology.persistence import Diagram, check_diagram, flag_diagrams
from topo_utils.topology.vectorize import LandscapeDistance, landscape_on, persistence_image

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float

POINTS, GRAPH, IMAGES = ("rips", "knn"), ("graph",), ("sublevel", "superlevel")
COARSE, FINE, PIXELS = 128, 1024, 20  # grid points where all bars are born at 0, where they are not; pixels a side
LEAST = 8  # grid points or pixels, with which a landscape or an image can show anything
HEAVIEST = 1e12  # weight; beyond, float32 gradients overflow


class TopologicalLoss(nn.Module):
    """L_topo between reference clouds X and clouds Y, over the homology dimensions h = 0, 1 (the proposal, section 2.4).

    ``representation="landscape"``: Σ_h w_h Σ_k ∫ (λ_k^X(t) - λ_k^Y(t))² dt, by the trapezoid rule on a fixed grid.
    ``representation="image"``: Σ_h w_h ‖P^X - P^Y‖_F² of persistence images on fixed pixels.

    Clouds may be batched; the loss is then the mean over the batch. One cloud is a mini-batch of features (the level
    ``batch``), or one item, such as the residues of a protein (the level ``sample``). What X and Y are is the caller's
    choice: F(x) against F(x̂) (``reconstruction``), against latent codes (``latent``), against F(G(z)) (``generated``).
    Computed in float32 (float64 for float64 clouds), also under autocast.

    Parameters
    ----------
    representation
        ``"landscape"`` or ``"image"``.
    filtration
        ``"rips"`` or ``"knn"`` of points ``(*batch, n, d)``, ``"graph"`` of edge weights ``(*batch, n, n)`` as
        :func:`persistent_homology` takes them, ``"sublevel"`` or ``"superlevel"`` of images ``(*batch, h, w)``.
    k
        Neighbours of the ``"knn"`` filtration. There, and for graphs, bars that never die end where the calibrated grid
        ends: a constant, so that the loss knows when such a bar is born and nothing of its end. Before the grid is
        calibrated they end at the cloud's diameter, or at the graph's largest weight.
    levels
        Number K of landscape levels; None for all: few levels see only the few longest bars.
    weights
        Weights (w_0, w_1) of connected components and loops. A weight of zero leaves that dimension out.
    scale_free
        Divide each distance matrix by its own mean, and let the gradient run *through* that mean. Wanted where the two
        clouds live in different spaces (features against latent codes): only the shape is then compared, not the size.
    grid_size
        Number of grid points, or of pixels along each side, at least 8. None: 128 points for the components of clouds,
        which are all born at 0; 1,024 for loops and for images, whose bars are short and would else fall between the
        points; 20 pixels.
    sigma
        Standard deviation of the image's Gaussian, in pixels.

    Raises
    ------
    ValueError
        An option has an unknown value.

    Examples
    --------
    >>> loss = TopologicalLoss().fit(torch.randn(8, 64, 16))
    >>> cloud = torch.randn(64, 2, requires_grad=True)
    >>> loss(torch.randn(64, 16), cloud).backward()
    """

    def __init__(
        self,
        representation: str = "landscape",
        filtration: str = "rips",
        k: int | None = None,
        levels: int | None = None,
        weights: tuple[float, float] = (1.0, 1.0),
        scale_free: bool = False,
        grid_size: int | None = None,
        sigma: float = 1.0,
    ):
        super().__init__()
        check_option("representation", representation, ("landscape", "image"))
        check_option("filtration", filtration, POINTS + GRAPH + IMAGES)
        if (filtration == "knn") != (k is not None):
            raise ValueError(f"k: wanted a number with filtration='knn' and only then, got {k!r} with {filtration!r}")
        for name, value, least in (("k", k, 1), ("levels", levels, 1), ("grid_size", grid_size, LEAST)):
            if value is not None:
                check_count(name, value, least)
        if levels is not None and representation == "image":
            raise ValueError(f"levels: wanted only with representation='landscape', got {levels}")
        numbers = isinstance(weights, tuple | list) and all(
            isinstance(w, int | float) and not isinstance(w, bool) for w in weights
        )
        if not numbers or len(weights) != 2 or not all(0 <= w <= HEAVIEST for w in weights) or not any(weights):
            raise ValueError(f"weights: wanted two numbers from 0 to {HEAVIEST:g}, one of them positive, got {weights!r}")
        check_option("scale_free", scale_free, (True, False))
        if scale_free and filtration not in POINTS:
            raise ValueError(f"scale_free: wanted only with filtrations of points, got it with {filtration!r}")
        check_positive("sigma", sigma)
        self.representation, self.filtration, self.k, self.levels = representation, filtration, k, levels
        self.weights, self.scale_free, self.sigma = tuple(weights), scale_free, sigma
        sizes = (
            (COARSE if filtration in POINTS + GRAPH else FINE, FINE) if representation == "landscape" else (PIXELS, PIXELS)
        )
        for dimension, size in enumerate(sizes):
            self.register_buffer(f"grid_{dimension}", torch.zeros(grid_size or size))

    @property
    def dimensions(self) -> int:
        """Number of homology dimensions that are looked at: with no weight on loops, one."""
        return 2 if self.weights[1] else 1

    @property
    def grids(self) -> tuple[Tensor, ...]:
        """The grid of each homology dimension, from the same first to the same last value."""
        return (self.grid_0, self.grid_1)[: self.dimensions]

    @property
    def grid(self) -> Tensor:
        """That of H0."""
        return self.grid_0

    def fit(self, reference: Float[Tensor, "*batch n d"]) -> TopologicalLoss:
        """Calibrate the grid on reference clouds: equal steps from the earliest birth over 1.25 times the diagrams' span.

        For points and graphs that is from 0 to 1.25 times the latest death. Done once, before training: a grid that moved
        with each batch would make the loss of two steps incomparable. The margin leaves room for clouds that are somewhat
        larger; what lies beyond the grid is not seen.

        Raises
        ------
        ValueError
            The reference has no bar to calibrate on: every cloud has all its points in one place.
        """
        with torch.no_grad():
            points = torch.cat([diagram.points[diagram.mask] for diagram in self.diagrams(reference)])
        if not len(points):
            raise ValueError("reference: wanted clouds with distinct points, got clouds without a single bar")
        first, last = float(points.min()), float(points.max())
        first = 0.0 if self.filtration in POINTS + GRAPH else first
        for dimension in (0, 1):
            setattr(
                self, f"grid_{dimension}", self._steps(getattr(self, f"grid_{dimension}"), first, 1.25 * (last - first))
            )
        return self

    @staticmethod
    @torch.inference_mode(False)  # a tensor that is made in inference mode cannot take part in training later
    def _steps(like: Tensor, first: float, span: float) -> Tensor:
        """Equal steps from the first value over the span."""
        grid = (first + span * torch.linspace(0, 1, len(like), dtype=torch.float64)).to(like.device, like.dtype)
        if not (grid.isfinite().all() and (grid.diff() > 0).all()):
            raise ValueError(
                f"reference: wanted bars that a grid of {grid.dtype} can tell apart, got them from {first:g} over "
                f"{span:g}; scale the clouds, or call double() on the loss first"
            )
        return grid

    def diagrams(self, cloud: Float[Tensor, "*batch n d"]) -> list[Diagram]:
        """Persistence diagrams of clouds, as the loss sees them: its filtration, and its scale."""
        return self._diagrams("cloud", cloud)

    def _diagrams(self, name: str, cloud: Tensor) -> list[Diagram]:
        cloud = checked(name, cloud)
        with torch.autocast(cloud.device.type, enabled=False):
            if self.filtration in IMAGES:
                return cubical_persistence(cloud, sublevel=self.filtration == "sublevel")[: self.dimensions]
            if self.filtration in GRAPH:
                host = check_weights(name, cloud)
                return flag_diagrams(cloud, host, self.dimensions - 1, essential="cap", end=self._end())
            return self._diagrams_of_points(name, cloud)

    def _diagrams_of_points(self, name: str, cloud: Tensor) -> list[Diagram]:
        from topo_utils.topology import _points  # here: numba takes a second to import

        with torch.no_grad():
            distances = euclidean(name, cloud.detach().cpu())
            distances = distances.view(-1, *distances.shape[-2:])
            weights = distances if self.k is None else knn(distances, self.k)
        lengths = distances.numpy()
        scale = _points.MeanDistance.apply(cloud, lengths) if self.scale_free else None
        ends = torch.zeros(len(lengths), dtype=cloud.dtype)  # of bars that never die
        if self.k is not None:
            ends = distances.amax((1, 2)) if self._end() is None else ends + self._end()
            if scale is not None and self._end() is not None:
                ends = ends * scale.detach().cpu().flatten()
        found = _points.bars(lengths, weights.numpy(), self.dimensions - 1, ends.numpy())
        points = _points.BirthsAndDeaths.apply(cloud, found)
        if scale is not None:
            points = [each / scale for each in points]
        if self.k is not None:  # the end is a constant in every unit
            points = [_ended(each, edges) for each, edges in zip(points, found.edges, strict=True)]
        return [Diagram(each, each.detach()[..., 1] > each.detach()[..., 0]) for each in points]

    def _end(self) -> float | None:
        """Last value of the calibrated grid."""
        return float(self.grid_0[-1]) if self.grid_0[-1] > self.grid_0[0] else None

    def vectors(self, cloud: Float[Tensor, "*batch n d"] | list[Diagram]) -> list[Tensor]:
        """Landscapes or images of clouds, or of their diagrams, on the calibrated grids: one tensor a dimension.

        Raises
        ------
        RuntimeError
            The grid has not been calibrated.
        """
        return self._vectors(self._diagrams_on_grid("cloud", cloud))

    prepare = vectors  # the name that all losses of :mod:`controls` have for what the reference alone decides

    def _vectors(self, diagrams: list[Diagram]) -> list[Tensor]:
        return [self._vector(diagram, grid) for diagram, grid in zip(diagrams, self.grids, strict=True)]

    def _vector(self, diagram: Diagram, grid: Tensor) -> Tensor:
        if self.representation == "landscape":
            return landscape_on(diagram, grid.to(diagram.points), self.levels)
        first, last, pixels = float(grid[0]), float(grid[-1]), len(grid)
        sigma = self.sigma * (last - first) / pixels
        births = torch.linspace(first - 2 * sigma, last, pixels + 1)  # room for the Gaussians of what is born first
        persistences = torch.linspace(0, last - first, pixels + 1)
        return persistence_image(diagram, births, persistences, sigma)

    def _diagrams_on_grid(self, name: str, cloud: Tensor | list[Diagram]) -> list[Diagram]:
        if self._end() is None:
            raise RuntimeError("the loss has no grid yet: call fit(reference) on reference clouds first")
        if isinstance(cloud, list) and len(cloud) == self.dimensions and all(isinstance(each, Diagram) for each in cloud):
            for each in cloud:
                check_diagram(name, each, endless=False)
            diagrams = cloud
        elif isinstance(cloud, list):
            wanted = "H0" if self.dimensions == 1 else "H0 and H1"
            raise ValueError(f"{name}: wanted a cloud, or the list of its diagrams {wanted}, got {cloud!r:.80}")
        else:
            diagrams = self._diagrams(name, cloud)
        self._warn_of_blindness(diagrams[0])
        return diagrams

    def _warn_of_blindness(self, components: Diagram) -> None:
        """Bars beyond the grid, or between its first points, are not seen and pull at nothing: say so when most are so."""
        if self.filtration not in POINTS + GRAPH:
            return
        deaths, bars = float(components.points.detach()[..., 1].sum()), int(components.mask.sum())
        end, step = float(self.grid_0[-1]), float(self.grid_0[1])
        if deaths > end * max(1, bars):
            warnings.warn(
                f"most bars end beyond the grid (at {end:g}), where the loss has no gradient: "
                "scale the clouds, fit the loss on clouds of their size, or take scale_free=True",
                stacklevel=4,
            )
        if (components.mask.numel() and deaths < step * bars) or (not bars and components.mask.shape[:-1].numel()):
            warnings.warn(
                f"most bars are shorter than the first step of the grid ({step:g}), where the loss hardly sees them: the "
                "clouds have collapsed, or are much smaller than those that the loss was fitted on; where it was fitted on "
                "points that lie much closer than their loops are wide, take a larger grid_size",
                stacklevel=4,
            )

    def forward(
        self,
        reference: Float[Tensor, "*batch n d"] | list[Diagram] | list[Tensor],
        cloud: Float[Tensor, "*batch m c"] | list[Diagram],
    ) -> Float[Tensor, ""]:
        """L_topo between reference clouds and clouds.

        Parameters
        ----------
        reference
            Clouds; or, when they are compared more than once or were computed in advance, their :meth:`diagrams` or
            :meth:`vectors`.
        cloud
            Clouds in the same batch shape, or their diagrams; numbers of points and dimensions may differ.

        Raises
        ------
        RuntimeError
            The grid has not been calibrated.
        TypeError, ValueError
            A cloud is not a finite float32 or float64 tensor of at least two points, or the batch shapes differ.
        """
        wanted, got = self._both(reference, cloud)
        _check_batch(wanted[0].shape[:-2], got[0].mask.shape[:-1])
        terms = zip(self.weights, wanted, got, self.grids, strict=False)
        return sum(weight * self._distance(x, diagram, grid).mean() for weight, x, diagram, grid in terms if weight)

    def _both(self, reference: object, cloud: Tensor | list[Diagram]) -> tuple[list[Tensor], list[Diagram]]:
        """Vectors of the reference and diagrams of the cloud. Clouds that are alike are paired at once, on all cores."""
        if isinstance(reference, list) and any(isinstance(each, Tensor) for each in reference):
            self._check_vectors(reference)
            return reference, self._diagrams_on_grid("cloud", cloud)
        if self.filtration in POINTS and _alike(reference, cloud):
            try:
                both = self._diagrams_on_grid("both", torch.stack([reference, cloud]))
            except ValueError:
                for name, each in (("reference", reference), ("cloud", cloud)):
                    euclidean(name, checked(name, each))  # names the one that is to blame
                raise
            wanted, got = ([Diagram(points[half], mask[half]) for points, mask in both] for half in (0, 1))
            if not reference.requires_grad:  # a stack with a cloud that does would make it so
                wanted = [Diagram(points.detach(), mask) for points, mask in wanted]
            return self._vectors(wanted), got
        return self._vectors(self._diagrams_on_grid("reference", reference)), self._diagrams_on_grid("cloud", cloud)

    def _check_vectors(self, vectors: list) -> None:
        if len(vectors) != self.dimensions or not all(isinstance(each, Tensor) for each in vectors):
            raise ValueError(f"reference: wanted vectors of {self.dimensions} homology dimensions, got {len(vectors)}")
        for h, (vector, grid) in enumerate(zip(vectors, self.grids, strict=True)):
            if vector.ndim < 2 or vector.shape[-1] != len(grid):
                raise ValueError(
                    f"reference: wanted vectors of H{h} on this loss's grid of {len(grid)} values, "
                    f"got {tuple(vector.shape)}"
                )
            check_finite("reference", vector)

    def _distance(self, x: Tensor, diagram: Diagram, grid: Tensor) -> Tensor:
        """Of each diagram of one dimension from the reference vector of its cloud, ``(*batch,)``."""
        if self.representation == "image":
            return (x - self._vector(diagram, grid)).square().sum((-2, -1))
        return LandscapeDistance.apply(diagram.points, x, grid.to(diagram.points), self.levels)


def _ended(points: Tensor, edges: np.ndarray) -> Tensor:
    """Births and deaths with the ends of bars that never die as constants."""
    births, deaths = points.unbind(-1)
    endless = torch.from_numpy(edges[..., 1] < 0).to(points.device).view(deaths.shape)
    return torch.stack([births, deaths.detach().where(endless, deaths)], dim=-1)


def _check_batch(reference: torch.Size, cloud: torch.Size) -> None:
    if reference != cloud:
        raise ValueError(f"reference and cloud: wanted the same batch shape, got {tuple(reference)} and {tuple(cloud)}")


def _alike(reference: object, cloud: object) -> bool:
    if not (isinstance(reference, Tensor) and isinstance(cloud, Tensor)) or reference.ndim < 2:
        return False
    return (reference.shape, reference.dtype, reference.device) == (cloud.shape, cloud.dtype, cloud.device)


def mean_distance(distances: Tensor) -> Tensor:
    """Mean over the pairs of different points, kept positive so that a collapsed cloud gives zeros and not NaN."""
    n = distances.shape[-1]
    mean = distances.sum((-2, -1), keepdim=True) / (n * (n - 1))
    return mean.clamp(min=torch.finfo(distances.dtype).tiny)
