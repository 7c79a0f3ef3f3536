"""Networks of the denoiser (:mod:`topo_utils.models.diffusion`): a U-Net for images, a residual MLP for all other items.

Both are called as ``network(x, level, condition)``: ``x`` is a noisy item scaled to unit variance, ``level`` is
ln(σ/σ_data)/4,
``condition`` a class for each item, or None. Both give back the shape of ``x``, and zero before they are trained.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from jaxtyping import Float, Int

GROUPS = 8  # of the channels, for normalisation


class Conditioning(nn.Module):
    """Noise level, and class where there are classes, as one vector; each block takes from it a scale and a shift.

    Parameters
    ----------
    width
        Length of the vector.
    classes
        Number of classes; None: without.
    """

    def __init__(self, width: int, classes: int | None = None):
        super().__init__()
        if classes is not None and classes < 1:
            raise ValueError(f"classes: wanted at least 1, or None for a network without a condition, got {classes}")
        self.classes = classes
        # periods from 2π to 2π/32 of the level, which lies in about [-1, 1]
        self.register_buffer("frequencies", 2 ** torch.linspace(0, 5, 16), persistent=False)
        self.level = nn.Sequential(nn.Linear(2 * len(self.frequencies), width), nn.SiLU(), nn.Linear(width, width))
        self.classed = None if classes is None else nn.Embedding(classes, width)
        self.activation = nn.SiLU()

    def forward(
        self, level: Float[Tensor, " batch"], condition: Int[Tensor, " batch"] | None
    ) -> Float[Tensor, "batch width"]:
        self.check(condition, len(level))
        angles = level[:, None] * self.frequencies
        vector = self.level(torch.cat([angles.cos(), angles.sin()], dim=1))
        return self.activation(vector if self.classed is None else vector + self.classed(condition))

    def check(self, condition: Int[Tensor, " batch"] | None, count: int) -> None:
        """Raise ValueError unless ``condition`` fits this network and ``count`` items."""
        if self.classes is None:
            if condition is not None:
                raise ValueError(
                    "condition: wanted None, as the network was made without classes; make it with classes=..."
                )
            return
        wanted = f"condition: wanted the class of each of {count} items, integers from 0 to {self.classes - 1}"
        if condition is None:
            raise ValueError(f"{wanted}, got None")
        if tuple(condition.shape) != (count,) or condition.dtype not in (torch.int32, torch.int64):
            raise ValueError(f"{wanted}, got a tensor of shape {tuple(condition.shape)} and type {condition.dtype}")
        if count and not 0 <= condition.min() <= condition.max() < self.classes:
            raise ValueError(f"{wanted}, got values from {condition.min()} to {condition.max()}")


class UNet(nn.Module):
    """U-Net (Ronneberger, Fischer & Brox, MICCAI 2015) with the residual blocks of diffusion models (Ho et al., NeurIPS
    2020).

    Squares of 2 × 2 pixels become channels at the start and pixels again at the end. Nothing is lost by this, and all
    convolutions work at a half or a quarter of the image's side, where a wide network is affordable on a CPU: the first of
    the two downsamplings costs nothing.

    Parameters
    ----------
    shape
        (channels, height, width); the sides are multiples of 4.
    width
        Channels at half the side, a multiple of 8; twice as many at a quarter.
    classes
        Number of classes of the condition; None: without.
    """

    def __init__(self, shape: tuple[int, int, int], width: int = 32, classes: int | None = None):
        super().__init__()
        if len(shape) != 3 or min(shape) < 1 or shape[1] % 4 or shape[2] % 4:
            raise ValueError(
                f"shape: wanted (channels, height, width) with sides that are multiples of 4, got {tuple(shape)}"
            )
        if width < GROUPS or width % GROUPS:
            raise ValueError(f"width: wanted a multiple of {GROUPS}, got {width}")
        channels, features = shape[0], 4 * width
        self.conditioning = Conditioning(features, classes)
        self.first = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * channels, width, 3, padding=1))
        self.down = ConvBlock(width, width, features)
        self.coarsen = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.middle = nn.ModuleList(ConvBlock(2 * width, 2 * width, features) for _ in range(2))
        self.refine = nn.Upsample(scale_factor=2)
        self.up = ConvBlock(3 * width, width, features)
        self.last = nn.Sequential(
            nn.GroupNorm(GROUPS, width), nn.SiLU(), zeroed(nn.Conv2d(width, 4 * channels, 3, padding=1)), nn.PixelShuffle(2)
        )

    def forward(
        self,
        x: Float[Tensor, "batch c h w"],
        level: Float[Tensor, " batch"],
        condition: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch c h w"]:
        features = self.conditioning(level, condition)
        fine = self.down(self.first(x), features)
        coarse = self.coarsen(fine)
        for block in self.middle:
            coarse = block(coarse, features)
        return self.last(self.up(torch.cat([self.refine(coarse), fine], dim=1), features))


class ConvBlock(nn.Module):
    """x + f(x): two convolutions; noise level and class scale and shift the channels between them."""

    def __init__(self, inputs: int, outputs: int, features: int):
        super().__init__()
        self.first = nn.Sequential(nn.GroupNorm(GROUPS, inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1))
        self.norm = nn.GroupNorm(GROUPS, outputs)
        self.modulation = nn.Linear(features, 2 * outputs)
        self.second = nn.Sequential(nn.SiLU(), zeroed(nn.Conv2d(outputs, outputs, 3, padding=1)))
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Float[Tensor, "batch c h w"], features: Float[Tensor, "batch f"]) -> Float[Tensor, "batch d h w"]:
        scale, shift = self.modulation(features)[..., None, None].chunk(2, dim=1)
        return self.shortcut(x) + self.second(self.norm(self.first(x)) * (1 + scale) + shift)


class ResidualMLP(nn.Module):
    """Residual MLP for items of any shape, which it flattens: points, molecules, proteins, graphs.

    Parameters
    ----------
    shape
        Shape of an item.
    width
        Length of the hidden vectors.
    blocks
        Number of residual blocks.
    classes
        Number of classes of the condition; None: without.
    """

    def __init__(self, shape: tuple[int, ...], width: int = 256, blocks: int = 4, classes: int | None = None):
        super().__init__()
        size = math.prod(shape)
        self.conditioning = Conditioning(width, classes)
        self.first = nn.Sequential(nn.Flatten(), nn.Linear(size, width))
        self.blocks = nn.ModuleList(LinearBlock(width) for _ in range(blocks))
        self.last = nn.Sequential(
            nn.LayerNorm(width), nn.SiLU(), zeroed(nn.Linear(width, size)), nn.Unflatten(1, tuple(shape))
        )

    def forward(
        self, x: Float[Tensor, "batch ..."], level: Float[Tensor, " batch"], condition: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch ..."]:
        features = self.conditioning(level, condition)
        x = self.first(x)
        for block in self.blocks:
            x = block(x, features)
        return self.last(x)


class LinearBlock(nn.Module):
    """x + f(x): two linear layers; noise level and class scale and shift their input."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.modulation = nn.Linear(width, 2 * width)
        self.layers = nn.Sequential(nn.Linear(width, width), nn.SiLU(), zeroed(nn.Linear(width, width)))

    def forward(
        self, x: Float[Tensor, "batch width"], features: Float[Tensor, "batch width"]
    ) -> Float[Tensor, "batch width"]:
        scale, shift = self.modulation(features).chunk(2, dim=1)
        return x + self.layers(self.norm(x) * (1 + scale) + shift)


def zeroed(layer: nn.Module) -> nn.Module:
    """``layer`` with all its weights set to zero: a block that starts as the identity, a network that starts as zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
