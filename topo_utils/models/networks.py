"""Small convolutional networks for images whose sides are multiples of four (28, 32, 64)."""

from __future__ import annotations

from torch import nn


def conv_encoder(shape: tuple[int, int, int], width: int, out: int) -> nn.Sequential:
    """Images ``(batch, channels, h, w)`` to ``(batch, out)``: two strided convolutions and a hidden layer."""
    channels, h, w = _check(shape)
    return nn.Sequential(
        nn.Conv2d(channels, width, 4, stride=2, padding=1),
        nn.SiLU(),
        nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
        nn.SiLU(),
        nn.Flatten(),
        nn.Linear(2 * width * (h // 4) * (w // 4), 8 * width),
        nn.SiLU(),
        nn.Linear(8 * width, out),
    )


def conv_decoder(shape: tuple[int, int, int], width: int, inputs: int) -> nn.Sequential:
    """Mirror of :func:`conv_encoder`: ``(batch, inputs)`` to logits ``(batch, channels, h, w)``."""
    channels, h, w = _check(shape)
    return nn.Sequential(
        nn.Linear(inputs, 8 * width),
        nn.SiLU(),
        nn.Linear(8 * width, 2 * width * (h // 4) * (w // 4)),
        nn.SiLU(),
        nn.Unflatten(1, (2 * width, h // 4, w // 4)),
        nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),
        nn.SiLU(),
        nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1),
    )


def _check(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    if len(shape) != 3 or shape[1] % 4 or shape[2] % 4 or min(shape) < 1:
        raise ValueError(f"shape: wanted (channels, height, width) with sides that are multiples of 4, got {shape}")
    return shape
