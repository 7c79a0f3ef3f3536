"""Distances between the persistence diagrams of real and generated clouds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from topo_utils.seed import generator
from topo_utils.topology import bottleneck, pairwise_distances, persistent_homology, rips

if TYPE_CHECKING:
    from jaxtyping import Float


@torch.no_grad()
def bottleneck_distances(
    real: Float[Tensor, "n d"], generated: Float[Tensor, "m d"], cloud_size: int = 128, draws: int = 8, seed: int = 0
) -> dict[str, float]:
    """Bottleneck distances in H0 and H1 between random clouds of real and of generated features, and their floor.

    Each draw takes two disjoint real clouds and one generated cloud. The floor is the distance of the two real clouds: no
    generator can be expected to come below it.

    Returns
    -------
    dict
        Means over the draws: ``bottleneck_h0``, ``bottleneck_h1``, ``bottleneck_h0_floor``, ``bottleneck_h1_floor``.

    Raises
    ------
    ValueError
        There are fewer than twice ``cloud_size`` real or than ``cloud_size`` generated features.
    """
    if len(real) < 2 * cloud_size or len(generated) < cloud_size:
        raise ValueError(
            f"cloud_size: wanted at most half the {len(real)} real and all the {len(generated)} generated features, "
            f"got {cloud_size}"
        )
    stream = generator(seed, "bottleneck")
    sums: dict[str, float] = {}
    for _ in range(draws):
        chosen = torch.randperm(len(real), generator=stream)
        clouds = real[chosen[:cloud_size]], real[chosen[cloud_size : 2 * cloud_size]]
        sample = generated[torch.randperm(len(generated), generator=stream)[:cloud_size]]
        diagrams = [persistent_homology(rips(pairwise_distances(cloud))) for cloud in (*clouds, sample)]
        for h, (first, second, fake) in enumerate(zip(*diagrams, strict=True)):
            for name, other in ((f"bottleneck_h{h}", fake), (f"bottleneck_h{h}_floor", second)):
                sums[name] = sums.get(name, 0.0) + bottleneck(first, other)
    return {name: total / draws for name, total in sums.items()}
