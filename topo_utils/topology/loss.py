"""The topological regulariser L_topo."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from topo_utils.topology._checks import check_cloud
from topo_utils.topology.filtrations import knn, pairwise_distances, rips
from topo_utils.topology.persistence import Diagram, persistent_homology
from topo_utils.topology.vectorize import landscape

if TYPE_CHECKING:
    from jaxtyping import Float


class TopologicalLoss(nn.Module):
    """L_topo = Σ_h w_h Σ_k ∫ (λ_k^X(t) - λ_k^Y(t))² dt over the homology dimensions h = 0, 1 (the proposal, section 2.4).

    X is the reference cloud and Y the cloud that is trained; the integral is the trapezoid rule on a fixed grid. Clouds
    may be batched; the loss is then the mean over the batch. Computed in float32 (float64 for float64 clouds), also under
    autocast.

    Parameters
    ----------
    filtration
        ``"rips"``, or ``"knn"`` with ``k`` neighbours.
    k
        Neighbours of the ``"knn"`` filtration.
    levels
        Number K of landscape levels; None for all: few levels see only the few longest bars.
    weights
        Weights (w_0, w_1) of connected components and loops. A weight of zero leaves that dimension out.
    scale_free
        Divide each distance matrix by its own mean, and let the gradient run *through* that mean. Wanted where the two
        clouds live in different spaces (features against latent codes): only the shape is then compared, not the size.
    grid_size
        Number of grid points.

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
        filtration: str = "rips",
        k: int | None = None,
        levels: int | None = None,
        weights: tuple[float, float] = (1.0, 1.0),
        scale_free: bool = False,
        grid_size: int = 128,
    ):
        super().__init__()
        if filtration not in ("rips", "knn"):
            raise ValueError(f"filtration: wanted 'rips' or 'knn', got {filtration!r}")
        if (filtration == "knn") != (k is not None):
            raise ValueError(f"k: wanted a number with filtration='knn' and only then, got {k!r} with {filtration!r}")
        if levels is not None and levels < 1:
            raise ValueError(f"levels: wanted at least 1, got {levels}")
        if len(weights) != 2 or min(weights) < 0 or max(weights) == 0:
            raise ValueError(f"weights: wanted two numbers, none negative and one positive, got {weights!r}")
        if grid_size < 2:
            raise ValueError(f"grid_size: wanted at least 2, got {grid_size}")
        self.filtration, self.k, self.levels = filtration, k, levels
        self.weights, self.scale_free = tuple(weights), scale_free
        self.register_buffer("grid", torch.zeros(grid_size))

    def fit(self, reference: Float[Tensor, "*batch n d"]) -> TopologicalLoss:
        """Calibrate the grid on reference clouds: ``grid_size`` equal steps from 0 to 1.25 times the latest death.

        Done once, before training: a grid that moved with each batch would make the loss of two steps incomparable. The
        margin leaves room for clouds that are somewhat larger; what lies beyond the grid is not seen.

        Raises
        ------
        ValueError
            Every reference cloud has all its points in one place, so that there is no bar to calibrate on.
        """
        deaths = torch.cat([diagram.points[..., 1].flatten() for diagram in self.diagrams(reference)])
        latest = float(deaths.max()) if len(deaths) else 0.0
        if latest == 0:
            raise ValueError("reference: wanted clouds with distinct points, got clouds without a single bar")
        self.grid = torch.linspace(0, 1.25 * latest, len(self.grid), device=self.grid.device)
        return self

    def diagrams(self, cloud: Float[Tensor, "*batch n d"]) -> list[Diagram]:
        """Persistence diagrams of clouds, as the loss sees them: its filtration, and its scale."""
        if cloud.dtype in (torch.float16, torch.bfloat16):  # as autocast leaves them
            cloud = cloud.float()
        check_cloud("cloud", cloud)
        with torch.autocast(cloud.device.type, enabled=False):
            distances = pairwise_distances(cloud)
            if self.scale_free:
                distances = distances / _mean_distance(distances)
            edges = rips(distances) if self.filtration == "rips" else knn(distances, self.k)
            essential = "drop" if self.filtration == "rips" else "cap"
            return persistent_homology(edges, max_dimension=1 if self.weights[1] else 0, essential=essential)

    def forward(
        self, reference: Float[Tensor, "*batch n d"] | list[Diagram], cloud: Float[Tensor, "*batch m c"]
    ) -> Float[Tensor, ""]:
        """L_topo between reference clouds and clouds.

        Parameters
        ----------
        reference
            Clouds, or their diagrams from :meth:`diagrams` when they are compared more than once.
        cloud
            Clouds in the same batch shape; numbers of points and dimensions may differ.

        Raises
        ------
        RuntimeError
            The grid has not been calibrated.
        TypeError, ValueError
            A cloud is not a finite float32 or float64 tensor of at least two points, or the batch shapes differ.
        """
        if not self.grid.any():
            raise RuntimeError("the loss has no grid yet: call fit(reference) on reference clouds first")
        wanted = reference if isinstance(reference, list) else self.diagrams(reference)
        got = self.diagrams(cloud)
        if wanted[0].mask.shape[:-1] != got[0].mask.shape[:-1]:
            shapes = tuple(wanted[0].mask.shape[:-1]), tuple(got[0].mask.shape[:-1])
            raise ValueError(f"reference and cloud: wanted the same batch shape, got {shapes[0]} and {shapes[1]}")
        terms = [weight * self._distance(x, y) for weight, x, y in zip(self.weights, wanted, got, strict=False) if weight]
        return torch.stack(terms).sum()

    def _distance(self, x: Diagram, y: Diagram) -> Tensor:
        """Σ_k ∫ (λ_k^X - λ_k^Y)² dt, the mean over the batch."""
        levels = self.levels or max(x.mask.shape[-1], y.mask.shape[-1], 1)
        grid = self.grid.to(y.points)
        difference = landscape(x, grid, levels) - landscape(y, grid, levels)
        return torch.trapezoid(difference.square(), grid).sum(-1).mean()


def _mean_distance(distances: Tensor) -> Tensor:
    """Mean over the pairs of different points, kept positive so that a collapsed cloud gives zeros and not NaN."""
    n = distances.shape[-1]
    mean = distances.sum((-2, -1), keepdim=True) / (n * (n - 1))
    return mean.clamp(min=torch.finfo(distances.dtype).tiny)
