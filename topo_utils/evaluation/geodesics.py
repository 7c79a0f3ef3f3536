"""Shortest paths in latent space, by the metric that the decoder pulls back from the data."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from scipy.interpolate import BSpline
from torch import Tensor

from topo_utils.topology.checks import check_count, check_finite

if TYPE_CHECKING:
    from jaxtyping import Float

Decode = Callable[[Tensor], Tensor]
DEGREE = 3
FINER = 4  # lengths are measured on so many times as many segments as the energy is minimised on


class Curves(NamedTuple):
    """Cubic B-splines in latent space, one a row, from t = 0 to t = 1; the first and last control points are the ends."""

    controls: Float[Tensor, "n k d"]

    def at(self, t: Float[Tensor, "n steps"]) -> Float[Tensor, "n steps d"]:
        """Each curve at its own parameters."""
        n, k, _ = self.controls.shape
        basis = _basis(t.detach().cpu().double().flatten().numpy(), k).view(n, -1, k).to(self.controls)
        return basis @ self.controls

    def everywhere(self, segments: int) -> Float[Tensor, "n steps d"]:
        """Each curve at the ends of so many equal steps of t."""
        return self.at(torch.linspace(0, 1, segments + 1).expand(len(self.controls), -1))


def straight(start: Float[Tensor, "n d"], end: Float[Tensor, "n d"], controls: int = 8) -> Curves:
    """Straight lines at constant speed.

    Raises
    ------
    TypeError, ValueError
        The ends have different shapes or values that are not finite, or there are fewer than four control points.
    """
    if start.shape != end.shape or start.ndim != 2:
        raise ValueError(f"start and end: wanted the same shape (n, d), got {tuple(start.shape)} and {tuple(end.shape)}")
    check_finite("start", start)
    check_finite("end", end)
    check_count("controls", controls, DEGREE + 1)
    knots = _knots(controls)
    averages = np.stack([knots[1 + i : 1 + i + controls] for i in range(DEGREE)]).mean(
        0
    )  # Greville: a spline of these is t
    t = torch.from_numpy(averages).to(start)[:, None]
    return Curves(start[:, None] * (1 - t) + end[:, None] * t)


def geodesics(
    decode: Decode,
    start: Float[Tensor, "n d"],
    end: Float[Tensor, "n d"],
    segments: int = 12,
    controls: int = 8,
    iterations: int = 60,
) -> Curves:
    """Curves between fixed ends that minimise the energy N Σ‖G(z_{i+1}) - G(z_i)‖² of the decoded curve in N segments.

    The minimiser has constant speed in the data and, where it is found, the least length (Shao, Kumar & Fletcher, "The
    Riemannian geometry of deep generative models", CVPR workshops 2018; Arvanitidis, Hansen & Hauberg, ICLR 2018). All
    curves are optimised together by Adam, from straight lines; the best control points of each are kept, and the straight
    line where it is not longer **on a grid four times finer** than that of the energy, between whose points a curve could
    make a detour. So no curve is longer than its line.

    Parameters
    ----------
    decode
        G: codes to items.
    start, end
        Codes, finite.
    segments
        N.
    controls
        Control points of each spline, the ends included.
    iterations
        Steps of Adam.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described.
    """
    line = straight(start, end, controls)
    check_count("segments", segments, 2)
    check_count("iterations", iterations, 0)
    unit = (end - start).norm(dim=1).clamp(min=torch.finfo(start.dtype).tiny)[:, None, None]
    inner = torch.zeros_like(line.controls[:, 1:-1]).requires_grad_()
    optimizer = torch.optim.Adam([inner], lr=0.02)
    scale, best = None, None
    for _ in range(iterations + 1):
        with torch.enable_grad():
            bent = Curves(
                torch.cat([line.controls[:, :1], line.controls[:, 1:-1] + unit * inner, line.controls[:, -1:]], 1)
            )
            energy = segments * _steps(decode, bent.everywhere(segments)).square().sum(1)
            if scale is None:
                scale = energy.detach().clamp(min=torch.finfo(energy.dtype).tiny)
                best = scale, bent.controls.detach()
            (gradient,) = torch.autograd.grad((energy / scale).sum(), inner)
        better = (energy < best[0]).detach()
        kept = bent.controls.detach().where(better[:, None, None], best[1])
        best = torch.minimum(energy.detach(), best[0]), kept
        inner.grad = gradient
        optimizer.step()
    found = Curves(best[1])
    with torch.no_grad():
        shorter = lengths(decode, found, FINER * segments) < lengths(decode, line, FINER * segments)
    return Curves(found.controls.where(shorter[:, None, None], line.controls))


def lengths(decode: Decode, curves: Curves, segments: int = 48) -> Float[Tensor, " n"]:
    """Length of each decoded curve, in the data's units, as a chain of so many segments."""
    return _steps(decode, curves.everywhere(segments)).sum(1)


@torch.no_grad()
def at_equal_lengths(decode: Decode, curves: Curves, steps: int, segments: int = 48) -> Float[Tensor, "n steps d"]:
    """Codes that divide each decoded curve into parts of equal length, both ends included.

    A decoder that stands still and then leaps spends most of a uniform grid where nothing happens. Where a curve has no
    length at all, the codes divide it equally in t.
    """
    check_count("steps", steps, 2)
    travelled = torch.nn.functional.pad(_steps(decode, curves.everywhere(segments)).double().cumsum(1), (1, 0))
    t, wanted = np.linspace(0, 1, segments + 1), np.linspace(0, 1, steps)
    rows = [np.interp(wanted, row / row[-1], t) if row[-1] > 0 else wanted for row in travelled.cpu().numpy()]
    return curves.at(torch.from_numpy(np.stack(rows)))


def _steps(decode: Decode, codes: Float[Tensor, "n points d"]) -> Float[Tensor, "n segments"]:
    """Length of each step of the decoded curves."""
    items = decode(codes.flatten(0, 1)).flatten(1).view(*codes.shape[:2], -1)
    return (items.diff(dim=1).square().sum(2) + torch.finfo(items.dtype).tiny).sqrt()


def _knots(controls: int) -> np.ndarray:
    inner = np.linspace(0, 1, controls - DEGREE + 1)
    return np.concatenate([np.zeros(DEGREE), inner, np.ones(DEGREE)])


def _basis(t: np.ndarray, controls: int) -> Float[Tensor, "steps k"]:
    return torch.from_numpy(BSpline.design_matrix(t, _knots(controls), DEGREE).toarray())
