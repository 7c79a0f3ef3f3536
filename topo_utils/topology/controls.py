"""What L_topo has to be better than: losses of the same form that know less topology, or none, and null references.

Each is used as :class:`TopologicalLoss` is: ``fit`` once, ``prepare`` what the reference alone decides, then call with a
reference, prepared or not, and a cloud.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from topo_utils.topology.checks import check_cloud, check_option, checked
from topo_utils.topology.filtrations import euclidean
from topo_utils.topology.loss import TopologicalLoss, mean_distance
from topo_utils.topology.persistence import flag_pairings

if TYPE_CHECKING:
    from jaxtyping import Float


class Distances(NamedTuple):
    """Distance matrices ``(*batch, n, n)`` and the mask of the pairs that are to be matched; None for all."""

    values: Tensor
    critical: Tensor | None


class DistanceMatching(nn.Module):
    """Mean over all pairs of (d_X(i, j) - d_Y(i, j))²: each distance is kept, whatever it means for the shape.

    Parameters
    ----------
    scale_free
        Divide each matrix by its mean first, as :class:`TopologicalLoss` does.
    """

    def __init__(self, scale_free: bool = False):
        super().__init__()
        self.scale_free = scale_free

    def fit(self, reference: Float[Tensor, "*batch n d"]) -> DistanceMatching:
        """Nothing needs to be calibrated."""
        return self

    def prepare(self, reference: Float[Tensor, "*batch n d"]) -> Distances:
        """What the reference alone decides."""
        return self._prepared("reference", reference)

    def _prepared(self, name: str, cloud: Tensor) -> Distances:
        return Distances(self._distances(name, cloud), None)

    def forward(self, reference: Float[Tensor, "*batch n d"] | Distances, cloud: Float[Tensor, "*batch n c"]) -> Tensor:
        """The loss; point i of the cloud belongs to point i of the reference.

        Raises
        ------
        ValueError
            The numbers of points or of clouds differ, or a value is not finite.
        """
        x = reference if isinstance(reference, Distances) else self.prepare(reference)
        y = self._prepared("cloud", cloud)
        if x.values.shape != y.values.shape:
            shapes = tuple(x.values.shape[:-1]), tuple(y.values.shape[:-1])
            raise ValueError(f"reference and cloud: wanted as many clouds and points, got {shapes[0]} and {shapes[1]}")
        return self.compare(x, y)

    def compare(self, x: Distances, y: Distances) -> Tensor:
        n = x.values.shape[-1]
        return (x.values - y.values).square().sum((-2, -1)).mean() / (n * (n - 1))

    def _distances(self, name: str, cloud: Tensor) -> Tensor:
        distances = euclidean(name, checked(name, cloud))
        return distances / mean_distance(distances) if self.scale_free else distances


class CriticalEdgeMatching(DistanceMatching):
    """The signature loss of the topological autoencoder: distances are kept on the critical edges alone.

    ½ Σ_{e critical in X} (d_X(e) - d_Y(e))² + ½ Σ_{e critical in Y} (d_X(e) - d_Y(e))², divided by the number n of points,
    the mean over the batch (Moor et al., "Topological autoencoders", ICML 2020, equations 2 to 4, there not divided;
    the released code divides by the batch size too). Which edges are critical carries no gradient.

    Parameters
    ----------
    dimensions
        0: the edges of the minimum spanning tree, on which components merge. 1: those on which loops begin and end, too.
    scale_free
        As for :class:`DistanceMatching`.
    """

    def __init__(self, dimensions: int = 0, scale_free: bool = False):
        super().__init__(scale_free)
        check_option("dimensions", dimensions, (0, 1))
        self.dimensions = dimensions

    def _prepared(self, name: str, cloud: Tensor) -> Distances:
        """Distances, and the critical edges among them."""
        distances = self._distances(name, cloud)
        n = distances.shape[-1]
        cells = [torch.from_numpy(pairing.cells) for pairing in flag_pairings(distances, self.dimensions)]
        edges = torch.cat([each.flatten(1) for each in cells], dim=1).to(distances.device)
        # edges of no bar, -1, go to one place more, which is cut off
        mask = torch.zeros(len(edges), n * n + 1, dtype=torch.bool, device=distances.device).scatter_(
            1, edges % (n * n + 1), True
        )
        return Distances(distances, mask[:, :-1].view(distances.shape))

    def compare(self, x: Distances, y: Distances) -> Tensor:
        squares = (x.values - y.values).square()
        counted = squares * x.critical + squares * y.critical
        return counted.sum((-2, -1)).mean() / (2 * x.values.shape[-1])


class CodeRegression(nn.Module):
    """Share of the reference's variance that no affine image of the cloud reproduces, 0 to 1: F's codes, handed over.

    min_{A, b} Σ_i ‖x_i - (A y_i + b)‖² / Σ_i ‖x_i - x̄‖², the least squares of each cloud in closed form, the mean over the
    batch. It wants the reference itself, up to an affine map, and so knows no topology, nor any metric beyond linear ones.
    A ridge of 1e-4 of the cloud's mean variance keeps the gradient finite where the cloud lies in a subspace.
    """

    ridge = 1e-4

    def fit(self, reference: Float[Tensor, "*batch n d"]) -> CodeRegression:
        """Nothing needs to be calibrated."""
        return self

    def prepare(self, reference: Float[Tensor, "*batch n d"]) -> Tensor:
        """The reference itself."""
        return reference

    def forward(self, reference: Float[Tensor, "*batch n d"], cloud: Float[Tensor, "*batch n c"]) -> Tensor:
        """The loss; point i of the cloud belongs to point i of the reference.

        Raises
        ------
        TypeError, ValueError
            The numbers of points or of clouds differ, a value is not finite, or all points of a reference are one.
        """
        reference, cloud = checked("reference", reference), checked("cloud", cloud)
        check_cloud("reference", reference)
        check_cloud("cloud", cloud)
        if reference.shape[:-1] != cloud.shape[:-1]:
            shapes = tuple(reference.shape[:-1]), tuple(cloud.shape[:-1])
            raise ValueError(f"reference and cloud: wanted as many clouds and points, got {shapes[0]} and {shapes[1]}")
        x, y = (each - each.mean(-2, keepdim=True) for each in (reference.to(cloud), cloud))
        total = x.square().sum((-2, -1))
        if not bool((total > 0).all()):
            raise ValueError("reference: wanted points that are not all one")
        gram = y.mT @ y
        least = self.ridge * gram.diagonal(dim1=-2, dim2=-1).mean(-1) + torch.finfo(gram.dtype).tiny
        products = y.mT @ x
        slopes = torch.linalg.solve(gram + least[..., None, None] * torch.eye(gram.shape[-1]).to(gram), products)
        return ((x - y @ slopes).square().sum((-2, -1)) / total).mean()


class EnergyDistance(nn.Module):
    """2 E‖x - y‖ - E‖x - x'‖ - E‖y - y'‖ between clouds in one space, unbiased; zero in the mean for equal distributions.

    Székely & Rizzo, "Energy statistics", J. Stat. Plan. Inference 143, 2013, equation 5. It compares distributions and
    knows no shape: what it does for generated samples, topology need not do.
    """

    def fit(self, reference: Float[Tensor, "*batch n d"]) -> EnergyDistance:
        """Nothing needs to be calibrated."""
        return self

    def prepare(self, reference: Float[Tensor, "*batch n d"]) -> Tensor:
        """The reference itself."""
        return reference

    def forward(self, reference: Float[Tensor, "*batch n d"], cloud: Float[Tensor, "*batch m d"]) -> Tensor:
        """The loss, the mean over the batch."""
        reference, cloud = checked("reference", reference), checked("cloud", cloud)
        reference = reference.to(cloud)
        if reference.shape[:-2] != cloud.shape[:-2] or reference.shape[-1] != cloud.shape[-1]:
            shapes = tuple(reference.shape), tuple(cloud.shape)
            raise ValueError(f"reference and cloud: wanted clouds in one space, got the shapes {shapes[0]} and {shapes[1]}")
        inside = mean_distance(euclidean("reference", reference)) + mean_distance(euclidean("cloud", cloud))
        across = torch.cdist(reference, cloud, compute_mode="donot_use_mm_for_euclid_dist").mean((-2, -1))
        return (2 * across - inside.squeeze((-2, -1))).mean()


class NullReference(nn.Module):
    """L_topo against a reference whose shape is destroyed: what remains of its effect is not due to the data's topology.

    Parameters
    ----------
    loss
        The loss to call.
    kind
        ``"gaussian"``: points of the normal distribution with the mean and covariance of the reference cloud.
        ``"shuffled"``: each coordinate permuted by itself among the points, which keeps its distribution and breaks what
        the coordinates have to do with each other.
    """

    def __init__(self, loss: TopologicalLoss, kind: str):
        super().__init__()
        check_option("kind", kind, ("gaussian", "shuffled"))
        self.loss, self.kind = loss, kind

    def fit(self, reference: Float[Tensor, "*batch n d"]) -> NullReference:
        """Calibrate the grid of the loss, on the true reference."""
        self.loss.fit(reference)
        return self

    def prepare(self, reference: Float[Tensor, "*batch n d"]) -> Any:
        """Vectors of the null reference; its noise depends on the reference alone, so that a resumed run draws the same."""
        return self.loss.prepare(self.null(reference))

    def null(self, reference: Float[Tensor, "*batch n d"]) -> Tensor:
        """The reference without its shape."""
        reference = checked("reference", reference)
        check_cloud("reference", reference)
        stream = torch.Generator().manual_seed(int(reference.detach().double().abs().sum().cpu().view(torch.int64)) >> 1)
        if self.kind == "shuffled":
            order = torch.rand(reference.shape, generator=stream).argsort(-2).to(reference.device)
            return reference.gather(-2, order)
        mean = reference.mean(-2, keepdim=True)
        noise = torch.randn(reference.shape, generator=stream).to(reference)
        _, s, v = torch.linalg.svd(reference - mean, full_matrices=False)  # of a covariance that may be singular
        return mean + noise[..., : s.shape[-1]] @ (s[..., None] * v) / (reference.shape[-2] - 1) ** 0.5

    def forward(self, reference: Any, cloud: Float[Tensor, "*batch m c"]) -> Tensor:
        """The loss between the prepared null reference, or the one made of a reference, and the cloud."""
        return self.loss(self.prepare(reference) if isinstance(reference, Tensor) else reference, cloud)
