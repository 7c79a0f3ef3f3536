"""Distances between the persistence diagrams of real and generated clouds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from topo_utils.evaluation.checks import check_features
from topo_utils.seed import generator
from topo_utils.topology import Diagram, bottleneck, pairwise_distances, persistent_homology, rips
from topo_utils.topology.checks import check_count

if TYPE_CHECKING:
    from jaxtyping import Float


@torch.no_grad()
def bottleneck_distances(
    real: Float[Tensor, "n d"], generated: Float[Tensor, "m d"], cloud_size: int = 128, draws: int = 100, seed: int = 0
) -> dict[str, float]:
    """Bottleneck distances in H0 and H1 between random clouds of real and of generated features, and their floor.

    Each draw takes two disjoint real clouds and one generated cloud, and compares the first real one with the other two.
    The real clouds depend on the real features and the seed alone: all models are measured by the same. The **floor** is
    the distance of the two real clouds: what a perfect sampler scores, in the mean. It is no lower bound, for samples of
    less variety than the data can have diagrams that are nearer to those of real clouds than real ones are to each other.

    A standard error is that of the mean over the draws, for these features: the standard deviation of the draws by √draws.
    That there are only so many features, of which the draws take overlapping clouds, and that a model was trained once, is
    not in it. The distance and its floor share real clouds, so that their difference is known better than either.

    Parameters
    ----------
    real, generated
        Features, finite, of one dimension.
    cloud_size
        Features in a cloud, from 2 to half the real ones and all the generated ones. The distances depend on it.
    draws
        Number of draws, at least 2.
    seed
        Of the streams that draw the real clouds and the generated ones.

    Returns
    -------
    dict
        Means over the draws: ``bottleneck_h0``, ``bottleneck_h1``, ``bottleneck_h0_floor``, ``bottleneck_h1_floor``; for
        each its ``..._standard_error``; ``bottleneck_n``, the size of the clouds.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described.
    """
    check_features(real, generated)
    check_count("cloud_size", cloud_size, 2)
    check_count("draws", draws, 2)
    if len(real) < 2 * cloud_size or len(generated) < cloud_size:
        raise ValueError(
            f"cloud_size: wanted at most half the {len(real)} real and all the {len(generated)} generated features, "
            f"got {cloud_size}"
        )
    first, second = _drawn(len(real), 2 * cloud_size, draws, generator(seed, "bottleneck", "real")).split(cloud_size, dim=1)
    fake = _drawn(len(generated), cloud_size, draws, generator(seed, "bottleneck", "generated"))
    by_cloud = [persistent_homology(rips(pairwise_distances(c))) for c in (real[first], real[second], generated[fake])]
    metrics = {}
    for h, (diagrams, others, fakes) in enumerate(zip(*by_cloud, strict=True)):
        for name, compared in ((f"bottleneck_h{h}", fakes), (f"bottleneck_h{h}_floor", others)):
            distances = torch.tensor(
                [bottleneck(*pair) for pair in zip(_single(diagrams), _single(compared), strict=True)], dtype=torch.float64
            )
            metrics[name] = distances.mean().item()
            metrics[f"{name}_standard_error"] = distances.std().item() / math.sqrt(draws)
    return {**metrics, "bottleneck_n": cloud_size}


def _drawn(count: int, size: int, draws: int, stream: torch.Generator) -> Tensor:
    """Indices of ``size`` of ``count`` things without repetition, ``(draws, size)``."""
    return torch.stack([torch.randperm(count, generator=stream)[:size] for _ in range(draws)])


def _single(diagrams: Diagram) -> list[Diagram]:
    """The diagrams of a batch, one by one."""
    return [Diagram(points, mask) for points, mask in zip(*diagrams, strict=True)]
