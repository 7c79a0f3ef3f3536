"""The topological regulariser L_topo."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from topo_utils.topology.checks import check_count, check_option, check_positive, checked
from topo_utils.topology.cubical import cubical_persistence
from topo_utils.topology.filtrations import euclidean, knn
from topo_utils.topology.persistence import Diagram, flag_diagrams, persistent_homology
from topo_utils.topology.vectorize import landscape_on, persistence_image

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float

    from topo_utils.topology._points import Bars

POINTS, GRAPH, IMAGES = ("rips", "knn"), ("graph",), ("sublevel", "superlevel")


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
        Neighbours of the ``"knn"`` filtration. There, and for graphs, bars that never die end at the largest edge weight,
        through which no gradient flows: the loss depends on that edge, and does not pull at it.
    levels
        Number K of landscape levels; None for all: few levels see only the few longest bars.
    weights
        Weights (w_0, w_1) of connected components and loops. A weight of zero leaves that dimension out.
    scale_free
        Divide each distance matrix by its own mean, and let the gradient run *through* that mean. Wanted where the two
        clouds live in different spaces (features against latent codes): only the shape is then compared, not the size.
    grid_size
        Number of grid points, or of pixels along each side.
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
        for name, value, least in (("k", k, 1), ("levels", levels, 1), ("grid_size", grid_size, 2)):
            if value is not None:
                check_count(name, value, least)
        if levels is not None and representation == "image":
            raise ValueError(f"levels: wanted only with representation='landscape', got {levels}")
        numbers = isinstance(weights, tuple | list) and all(isinstance(w, int | float) for w in weights)
        if not numbers or len(weights) != 2 or not all(math.isfinite(w) and w >= 0 for w in weights) or not any(weights):
            raise ValueError(f"weights: wanted two numbers, none negative and one positive, got {weights!r}")
        check_option("scale_free", scale_free, (True, False))
        if scale_free and filtration not in POINTS:
            raise ValueError(f"scale_free: wanted only with filtrations of points, got it with {filtration!r}")
        if grid_size is None:
            grid_size = 128 if representation == "landscape" else 20
        check_positive("sigma", sigma)
        self.representation, self.filtration, self.k, self.levels = representation, filtration, k, levels
        self.weights, self.scale_free, self.sigma = tuple(weights), scale_free, sigma
        self.register_buffer("grid", torch.zeros(grid_size))

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
        steps = torch.linspace(0, 1, len(self.grid), dtype=torch.float64)
        grid = (first + 1.25 * (last - first) * steps).to(self.grid)
        if not (grid.isfinite().all() and (grid.diff() > 0).all()):
            raise ValueError(
                f"reference: wanted bars that a grid of {grid.dtype} can tell apart, got them from {first:g} to {last:g}; "
                "scale the clouds, or call double() on the loss first"
            )
        self.grid = grid
        return self

    def diagrams(self, cloud: Float[Tensor, "*batch n d"]) -> list[Diagram]:
        """Persistence diagrams of clouds, as the loss sees them: its filtration, and its scale."""
        return self._diagrams("cloud", cloud)

    def _diagrams(self, name: str, cloud: Tensor) -> list[Diagram]:
        cloud, highest = checked(name, cloud), 1 if self.weights[1] else 0
        with torch.autocast(cloud.device.type, enabled=False):
            if self.filtration in IMAGES:
                return cubical_persistence(cloud, sublevel=self.filtration == "sublevel")[: highest + 1]
            if self.filtration in GRAPH:
                return persistent_homology(cloud, highest, essential="cap")
            distances = euclidean(name, cloud)
            if self.scale_free:
                distances = distances / mean_distance(distances)
            if self.filtration == "knn":
                return flag_diagrams(knn(distances, self.k), highest, essential="cap")
            return flag_diagrams(distances, highest, essential="drop")

    @torch.no_grad()
    def _bars(self, name: str, cloud: Tensor) -> Bars:
        """Diagrams of point clouds, all batch dimensions in one, outside of autograd and on the host."""
        from topo_utils.topology import _points  # here: numba takes a second to import

        self._check_fitted()
        with torch.autocast("cpu", enabled=False):
            distances = euclidean(name, cloud.cpu()).view(-1, *[cloud.shape[-2]] * 2)
            weights = knn(distances, self.k) if self.filtration == "knn" else distances
            scales = mean_distance(distances) if self.scale_free else None
        return _points.bars(distances, weights, int(self.weights[1] > 0), scales, cap=self.filtration == "knn")

    def vectors(self, cloud: Float[Tensor, "*batch n d"] | list[Diagram]) -> list[Tensor]:
        """Landscapes or images of clouds, or of their diagrams, on the calibrated grid: one tensor a dimension.

        Raises
        ------
        RuntimeError
            The grid has not been calibrated.
        """
        return self._vectors("cloud", cloud)

    prepare = vectors  # the name that all losses of :mod:`controls` have for what the reference alone decides

    def _vectors(self, name: str, cloud: Tensor | list[Diagram]) -> list[Tensor]:
        if self._of_points(cloud) and not cloud.requires_grad:
            from topo_utils.topology import _points

            cloud = checked(name, cloud)
            curves = _points.landscapes(self._seen(self._bars(name, cloud)), self._host_grid(cloud), self.levels)
            return [torch.from_numpy(each).to(cloud.device).view(*cloud.shape[:-2], *each.shape[1:]).mT for each in curves]
        return [self._vector(diagram) for diagram in self._diagrams_on_grid(name, cloud)]

    def _of_points(self, cloud: object) -> bool:
        """Whether these are clouds that :mod:`_points` can take all the way."""
        return self.representation == "landscape" and self.filtration in POINTS and isinstance(cloud, Tensor)

    def _host_grid(self, cloud: Tensor) -> np.ndarray:
        return self.grid.to("cpu", cloud.dtype).numpy()

    def _check_fitted(self) -> None:
        if self.grid[-1] <= self.grid[0]:
            raise RuntimeError("the loss has no grid yet: call fit(reference) on reference clouds first")

    def _vector(self, diagram: Diagram) -> Tensor:
        if self.representation == "landscape":
            return landscape_on(diagram, self.grid.to(diagram.points), self.levels)
        first, last, pixels = float(self.grid[0]), float(self.grid[-1]), len(self.grid)
        sigma = self.sigma * (last - first) / pixels
        births = torch.linspace(first - 2 * sigma, last, pixels + 1)  # room for the Gaussians of what is born first
        persistences = torch.linspace(0, last - first, pixels + 1)
        return persistence_image(diagram, births, persistences, sigma)

    def _diagrams_on_grid(self, name: str, cloud: Tensor | list[Diagram]) -> list[Diagram]:
        self._check_fitted()
        diagrams = cloud if isinstance(cloud, list) else self._diagrams(name, cloud)
        wanted = 2 if self.weights[1] else 1
        if len(diagrams) != wanted or not all(isinstance(each, Diagram) for each in diagrams):
            raise ValueError(
                f"{name}: wanted a cloud, or the list of its diagrams H0 to H{wanted - 1}, got {diagrams!r:.80}"
            )
        self._warn_beyond_grid(diagrams[0].points.detach()[..., 1].sum(), diagrams[0].mask.sum())
        return diagrams

    def _seen(self, found: Bars) -> Bars:
        deaths = found.points[0][..., 1]
        self._warn_beyond_grid(deaths.sum(), (deaths > 0).sum())
        return found

    def _warn_beyond_grid(self, deaths: float, bars: int) -> None:
        """Bars beyond the grid are not seen and pull at nothing: say so when that is most of them."""
        if float(deaths) > float(self.grid[-1]) * max(1, int(bars)):
            warnings.warn(
                f"most bars end beyond the grid (at {float(self.grid[-1]):g}), where the loss has no gradient: "
                "scale the clouds, fit the loss on clouds of their size, or take scale_free=True",
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
        if self._of_points(cloud) and _alike(reference, cloud):
            return self._pair_loss(checked("reference", reference), checked("cloud", cloud))
        precomputed = isinstance(reference, list) and all(isinstance(each, Tensor) for each in reference)
        wanted = reference if precomputed else self._vectors("reference", reference)
        dimensions = 2 if self.weights[1] else 1
        if len(wanted) != dimensions:
            raise ValueError(f"reference: wanted vectors of {dimensions} homology dimensions, got {len(wanted)}")
        if self._of_points(cloud) and not any(x.requires_grad for x in wanted):
            return self._point_loss(wanted, checked("cloud", cloud))
        got = self._diagrams_on_grid("cloud", cloud)
        _check_batch(wanted[0].shape[:-2], got[0].mask.shape[:-1])
        terms = zip(self.weights, wanted, got, strict=False)
        return sum(weight * self._squared_distance(x, diagram).mean() for weight, x, diagram in terms if weight)

    def _pair_loss(self, reference: Tensor, cloud: Tensor) -> Tensor:
        """Of clouds that are alike: the bars of both at once, on all cores."""
        from topo_utils.topology import _points

        try:
            both = self._bars("both", torch.stack([reference, cloud.detach()]))
        except ValueError:
            for name, each in (("reference", reference), ("cloud", cloud)):
                euclidean(name, each)  # names the one that is to blame
            raise
        first, found = map(self._seen, both.halves())
        grid = self._host_grid(cloud)
        return self._distance(_points.landscapes(first, grid, self.levels), found, grid, cloud)

    def _point_loss(self, references: list[Tensor], cloud: Tensor) -> Tensor:
        grid, found = self._host_grid(cloud), self._seen(self._bars("cloud", cloud))
        _check_batch(references[0].shape[:-2], cloud.shape[:-2])
        size = len(found.scales), len(grid)
        wanted = [x.detach().to("cpu", cloud.dtype).mT.reshape(*size, x.shape[-2]).contiguous().numpy() for x in references]
        return self._distance(wanted, found, grid, cloud)

    def _distance(self, wanted: list[np.ndarray], found: Bars, grid: np.ndarray, cloud: Tensor) -> Tensor:
        from topo_utils.topology import _points

        clouds = cloud.reshape(-1, *cloud.shape[-2:])
        return _points.LandscapeDistance.apply(clouds, found, wanted, grid, self.levels, self.weights) / len(clouds)

    def _squared_distance(self, x: Tensor, diagram: Diagram) -> Tensor:
        """Of each diagram of one dimension from the reference vector of its cloud, ``(*batch,)``."""
        y = self._vector(diagram)
        levels = max(x.shape[-2], y.shape[-2])
        squares = (_with_levels(x, levels) - _with_levels(y, levels)).square()
        if self.representation == "image":
            return squares.sum((-2, -1))
        return torch.trapezoid(squares.sum(-2), self.grid.to(squares))


def _check_batch(reference: torch.Size, cloud: torch.Size) -> None:
    if reference != cloud:
        raise ValueError(f"reference and cloud: wanted the same batch shape, got {tuple(reference)} and {tuple(cloud)}")


def _alike(reference: object, cloud: Tensor) -> bool:
    if not isinstance(reference, Tensor) or reference.requires_grad or reference.ndim < 2:
        return False
    return (reference.shape, reference.dtype, reference.device) == (cloud.shape, cloud.dtype, cloud.device)


def _with_levels(vectors: Tensor, levels: int) -> Tensor:
    """The levels that a landscape of fewer bars lacks are zero."""
    missing = levels - vectors.shape[-2]
    return nn.functional.pad(vectors, (0, 0, 0, missing)) if missing else vectors


def mean_distance(distances: Tensor) -> Tensor:
    """Mean over the pairs of different points, kept positive so that a collapsed cloud gives zeros and not NaN."""
    n = distances.shape[-1]
    mean = distances.sum((-2, -1), keepdim=True) / (n * (n - 1))
    return mean.clamp(min=torch.finfo(distances.dtype).tiny)
