"""A large cloud by a few of its points: landmarks that cover it, and the filtration that all its points witness."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from topo_utils.topology.checks import check_count, check_dtype, check_single_cloud

if TYPE_CHECKING:
    from jaxtyping import Float, Int


class Landmarks(NamedTuple):
    """Some points of a cloud, which cover it.

    Attributes
    ----------
    indices
        Which points, int64, ``(m,)``, in the order in which they were chosen: the first j of them are the choice of j.
    radius
        Largest distance of a point of the cloud to its nearest landmark.
    """

    indices: Int[Tensor, " m"]
    radius: float


@torch.no_grad()
def max_min_landmarks(x: Float[Tensor, "n d"], count: int, first: int = 0) -> Landmarks:
    """Landmarks each of which is farthest from those before it (de Silva & Carlsson, "Topological estimation using witness
    complexes", 2004, section 2.3); of several the first.

    The bars of their Rips filtration are those of the whole cloud's up to twice the radius, in the bottleneck distance
    (Chazal, de Silva & Oudot, "Persistence stability for geometric complexes", Geom. Dedicata 173, 2014). The radius is at
    most twice that of the best choice of so many points (Gonzalez, Theor. Comput. Sci. 38, 1985). Outliers come early.

    Parameters
    ----------
    x
        One cloud of n >= 2 points in R^d, finite, float32 or float64.
    count
        Number of landmarks, 2 <= count <= n.
    first
        The point to begin with.

    Raises
    ------
    TypeError, ValueError
        ``x`` is not such a cloud, or a number is out of range.
    """
    check_single_cloud("x", x)
    check_count("count", count, least=2, below=len(x) + 1)
    check_count("first", first, least=0, below=len(x))
    indices = torch.empty(count, dtype=torch.int64, device=x.device)
    nearest = torch.full((len(x),), torch.inf, dtype=x.dtype, device=x.device)
    following = torch.tensor(first, device=x.device)
    for place in range(count):
        indices[place] = following
        nearest = torch.minimum(nearest, (x - x[following]).norm(dim=1))
        following = nearest.argmax()
    return Landmarks(indices, nearest.max().item())


def witness(x: Float[Tensor, "n d"], landmarks: Int[Tensor, " m"], nu: int = 1) -> Float[Tensor, "m m"]:
    """Lazy witness filtration W(R; ν) of landmarks, for all points of a cloud as witnesses (de Silva & Carlsson 2004, 2.4).

    An edge enters when a point has both ends within R of its distance to the ν-th nearest landmark (ν = 0: within R), a
    triangle with its last edge. The gradient goes to the ends and to the witness of each edge.

    Parameters
    ----------
    x
        One cloud of n >= 2 points in R^d, finite, float32 or float64.
    landmarks
        Which points are landmarks, int64, each once; see :func:`max_min_landmarks`.
    nu
        ν = 0, 1 or 2. With 2 a point joins its two nearest landmarks at 0, and with 1 the sooner the nearer it is to half
        way: what comes later is larger than the gaps between landmarks.

    Returns
    -------
    Tensor
        Edge weights, for :func:`persistent_homology`, in the units of ``x``.

    Raises
    ------
    TypeError, ValueError
        ``x`` is not such a cloud, ``landmarks`` are not different points of it, or ν has another value.

    Notes
    -----
    Takes O(n m) memory and O(n m²) time.
    """
    check_single_cloud("x", x)
    check_dtype("landmarks", landmarks, torch.int64)
    wrong = landmarks.ndim != 1 or len(landmarks) < 2 or ((landmarks < 0) | (landmarks >= len(x))).any()
    if wrong or len(landmarks.unique()) < len(landmarks):
        raise ValueError(f"landmarks: wanted two or more different ones of {len(x)} points, got {landmarks.tolist()!r:.80}")
    check_count("nu", nu, least=0, below=3)
    distances = torch.cdist(x[landmarks], x, compute_mode="donot_use_mm_for_euclid_dist")
    excess = distances - distances.kthvalue(nu, dim=0).values if nu else distances
    with torch.no_grad():
        best = torch.stack([torch.maximum(each, excess).argmin(1) for each in excess])
        best = best.triu() + best.triu(1).T  # the same witness both ways
    across = excess.gather(1, best)
    return torch.maximum(across, across.T).clamp(min=0).fill_diagonal_(0)
