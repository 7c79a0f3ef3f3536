"""The diffusion model under TopoDiffusionLite (the proposal, section 2.5 B): x_t = x + σ ε, and a network that predicts ε.

Taken from EDM (Karras, Aittala, Aila & Laine, "Elucidating the design space of diffusion-based generative models", NeurIPS
2022, arXiv:2206.00364): the preconditioning of the network (table 1; see :class:`Diffusion`), the spacing of noise levels
(eq. 5), Heun's method and the sampler with added noise (algorithms 1 and 2), a log-normal σ in training. Not taken: the
weight of the loss, for the loss is the proposal's, ‖ε - ε̂‖². To EDM's denoiser this gives the weight λ(σ) = 1/σ², which
neglects high noise beside EDM's (σ² + σ_data²)/(σ σ_data)²; so σ is drawn higher and wider than EDM draws it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.special import ndtr, ndtri

from topo_utils.topology.checks import check_count

if TYPE_CHECKING:
    from jaxtyping import Float, Int

SCHEDULES = ("lognormal", "loguniform")
SAMPLERS = ("heun", "euler")
AT_ONCE = 500  # items that are sampled at once, so that any number of them fits into memory
RHO = 7.0  # of the spacing of noise levels: the higher, the more of them are low (Karras et al. 2022, section 3)
LOG_MEAN, LOG_STD = 0.0, 1.4  # of ln(σ / σ_data) in training; EDM's are -0.5 and 1.2, in this unit


class Terms(NamedTuple):
    """What a training step needs of a batch; all of it carries gradients."""

    noise: Float[Tensor, "batch ..."]
    """ε̂."""
    denoised: Float[Tensor, "batch ..."]
    """x̃_t = x_t - σ ε̂."""
    error: Float[Tensor, " batch"]
    """‖ε - ε̂‖², summed over the item."""


class Diffusion(nn.Module):
    """Variance-exploding diffusion that predicts the noise.

    With the mean c and the standard deviation s of each coordinate (:meth:`fit_scale`), the network F sees u and gives ε̂ by

        u = (x_t - c) / √(σ² + s²),    ε̂ = (σ u + s F(u, ln(σ / σ_data) / 4)) / √(σ² + s²).

    Why: u has unit variance. The best guess of ε from its own coordinate alone, were the data Gaussian, is the first term,
    so that F adds what such a model cannot know. What F has to give, (s ε - σ (x - c) / s) / √(σ² + s²), has unit variance
    too, at every σ: it is the noise where there is little, the item where there is much. For x̃_t = x_t - σ ε̂ these are
    EDM's c_skip, c_out, c_in and c_noise, F being minus EDM's, but for each coordinate; F predicts the v of Salimans & Ho,
    "Progressive distillation for fast sampling of diffusion models", ICLR 2022.

    Items are real numbers, whatever their domain: the caller clamps samples of images to [0, 1], and reads those of one-hot
    items and adjacency matrices as the domain says.

    Parameters
    ----------
    network
        F, called as ``network(u, level, condition)``: see :mod:`topo_utils.models.unet`.
    shape
        Shape of an item.
    sigma_min
        The lowest noise level, in units of σ_data. About this much noise is left in the samples at most: 0.02 is 1.6 of
        255 grey levels for MNIST. Items that will be rounded, as graphs are, need less.
    sigma_max
        The highest noise level, in units of the data's standard deviation along their first principal axis. Sampling starts
        from a Gaussian of the right mean and the same variance along all axes; along the first, where that is least right,
        the samples' standard deviation comes out short by the factor 1 - 1 / (2 sigma_max²), 2 %.
    schedule
        Distribution of σ in training, between these levels. ``"lognormal"``: ln(σ / σ_data) is normal, as in EDM;
        ``"loguniform"``.
    """

    def __init__(
        self,
        network: nn.Module,
        shape: tuple[int, ...],
        sigma_min: float = 0.02,
        sigma_max: float = 5.0,
        schedule: str = "lognormal",
    ):
        super().__init__()
        if not 0 < sigma_min < sigma_max < math.inf:
            raise ValueError(f"sigma_min, sigma_max: wanted 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}")
        _check_name("schedule", schedule, SCHEDULES)
        self.network, self.shape, self.schedule = network, tuple(shape), schedule
        self.limits = sigma_min, sigma_max
        coordinates = (self.shape[0], 1, 1) if self.of_images else self.shape
        self.register_buffer("mean", torch.zeros(self.shape))
        self.register_buffer("centre", torch.zeros(coordinates))
        self.register_buffer("deviation", torch.ones(coordinates))
        self.register_buffer("sigma_data", torch.ones(()))
        self.register_buffer("sigma_min", torch.tensor(float(sigma_min)))
        self.register_buffer("sigma_max", torch.tensor(float(sigma_max)))

    @property
    def of_images(self) -> bool:
        """Items are (channels, height, width)."""
        return len(self.shape) == 3

    @torch.no_grad()
    def fit_scale(self, items: Float[Tensor, "n ..."]) -> Diffusion:
        """Take c, s, σ_data and the limits of σ from training items; they are kept with the weights. Returns itself.

        In images, c and s are the same for all pixels of a channel, as a convolution treats all places alike: digits that
        are centred by their mean image are learned more slowly. σ_data is the root of the mean of s². Until this is called,
        c = 0 and s = 1.

        Raises
        ------
        ValueError
            Items of another shape, or not finite, or all equal.
        """
        self._check_shape("items", items)
        _check_finite("items", items)
        if (items == items[0]).all():
            raise ValueError(f"items: wanted items that differ from each other, got {len(items)} equal ones")
        pooled = (0, 2, 3) if self.of_images else 0
        mean = items.mean(0)
        variance, centre = torch.var_mean(items, pooled, correction=0, keepdim=True)
        self.mean.copy_(mean)
        self.centre.copy_(centre[0])
        self.deviation.copy_(variance[0].sqrt())
        self.sigma_data.copy_(variance.mean().sqrt())
        self.sigma_min.copy_(self.limits[0] * self.sigma_data)
        self.sigma_max.copy_(self.limits[1] * _principal_deviation((items - mean).flatten(1)))
        return self

    def forward(
        self,
        x_t: Float[Tensor, "batch ..."],
        sigma: Float[Tensor, " batch"] | float,
        condition: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch ..."]:
        """ε̂ = s_θ(x_t, σ), the predicted noise.

        Parameters
        ----------
        x_t
            Noisy items, in the units of the data.
        sigma
            Noise level of each item, or one for all, in the same units.
        condition
            Class of each item, if the network was made with classes.

        Raises
        ------
        ValueError
            Another shape, numbers that are not finite, σ ≤ 0, a condition that is missing, unexpected or out of range.
        """
        self._check_shape("x_t", x_t)
        _check_finite("x_t", x_t)
        sigma = self._column(sigma, x_t)
        if not (sigma > 0).all():
            raise ValueError(f"sigma: wanted noise levels above 0, got {sigma.min().item()}")
        norm = torch.hypot(sigma, self.deviation)
        u = (x_t - self.centre) / norm
        level = (sigma / self.sigma_data).log().flatten() / 4
        return (sigma * u + self.deviation * self.network(u, level, condition)) / norm

    def denoised(
        self,
        x_t: Float[Tensor, "batch ..."],
        sigma: Float[Tensor, " batch"] | float,
        condition: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch ..."]:
        """x̃_t = x_t - σ ε̂, the estimate of E[x | x_t]. Parameters and errors are those of :meth:`forward`."""
        predicted = self(x_t, sigma, condition)
        return x_t - self._column(sigma, x_t) * predicted

    def loss_terms(
        self,
        x: Float[Tensor, "batch ..."],
        sigma: Float[Tensor, " batch"],
        noise: Float[Tensor, "batch ..."],
        condition: Int[Tensor, " batch"] | None = None,
    ) -> Terms:
        """The proposal's loss of each item, for σ of :meth:`sample_sigma` and ε ~ N(0, I); errors as :meth:`forward`."""
        self._check_shape("x", x)
        if noise.shape != x.shape:
            raise ValueError(f"noise: wanted the shape of x, {tuple(x.shape)}, got {tuple(noise.shape)}")
        column = self._column(sigma, x)
        x_t = x + column * noise
        predicted = self(x_t, sigma, condition)
        return Terms(predicted, x_t - column * predicted, (noise - predicted).square().flatten(1).sum(1))

    def sample_sigma(self, count: int, generator: torch.Generator | None = None) -> Float[Tensor, " count"]:
        """Noise levels for training: from ``schedule``, cut off at the limits. Drawn on the generator's device."""
        low, high = self.sigma_min.log(), self.sigma_max.log()
        uniform = self._draw(torch.rand, (count,), generator)
        if self.schedule == "loguniform":
            return torch.lerp(low, high, uniform).exp()
        middle = self.sigma_data.log() + LOG_MEAN
        quantiles = torch.lerp(ndtr((low - middle) / LOG_STD), ndtr((high - middle) / LOG_STD), uniform)
        return (middle + LOG_STD * ndtri(quantiles)).exp().clamp(self.sigma_min, self.sigma_max)  # rounding may reach over

    def levels(self, steps: int) -> Float[Tensor, " steps+1"]:
        """Noise levels of the samplers, falling from the highest to the lowest, then 0 (Karras et al. 2022, eq. 5)."""
        if steps < 1:
            raise ValueError(f"steps: wanted at least 1, got {steps}")
        ramp = torch.linspace(0, 1, steps, device=self.mean.device)
        levels = torch.lerp(self.sigma_max ** (1 / RHO), self.sigma_min ** (1 / RHO), ramp) ** RHO
        return torch.cat([levels, levels.new_zeros(1)])

    @torch.no_grad()
    def sample(
        self,
        count: int,
        generator: torch.Generator | None = None,
        steps: int = 30,
        sampler: str = "heun",
        churn: float = 0.0,
        condition: Int[Tensor, " count"] | None = None,
        trajectory: bool = False,
    ) -> Float[Tensor, "count ..."] | tuple[Float[Tensor, "count ..."], Float[Tensor, "steps count ..."]]:
        """New items: the probability flow dx/dσ = ε̂(x, σ) from noise down to σ = 0.

        Parameters
        ----------
        count
            Number of items. They are made 500 at a time, one part's noise drawn after the other's.
        generator
            Gives all random numbers, drawn on its device: a CPU generator gives the same noise on every device. None:
            torch's global one.
        steps
            Steps along :meth:`levels`. Heun's method calls the network twice a step, but once in the last.
        sampler
            ``"heun"``, of second order, or ``"euler"``, of first.
        churn
            S_churn of Karras et al. 2022, algorithm 2, at all noise levels: before each step, σ is raised by the factor
            1 + min(churn / steps, √2 - 1) by fresh noise, which makes up for errors of the steps before. 0: no noise is
            added, and the items depend on the first noise alone.
        condition
            Class of each item, if the network was made with classes; on any device.
        trajectory
            Return also x̃_t at each step.

        Returns
        -------
        Tensor, or pair of Tensor
            Items ``(count, *shape)``; x̃_t ``(steps, count, *shape)``.

        Raises
        ------
        ValueError
            Count or steps below 1, churn below 0, an unknown sampler; a condition that is not one class for each item, or
            as in :meth:`forward`.
        """
        check_count("count", count)
        if not 0 <= churn < math.inf:
            raise ValueError(f"churn: wanted a number of at least 0, got {churn}")
        _check_name("sampler", sampler, SAMPLERS)
        if condition is not None and getattr(condition, "shape", None) != (count,):
            got = tuple(condition.shape) if isinstance(condition, Tensor) else condition
            raise ValueError(f"condition: wanted one class for each of {count} items, got {got}")
        if count > AT_ONCE:
            parts = [
                self.sample(
                    len(part), generator, steps, sampler, churn, None if condition is None else condition[part], trajectory
                )
                for part in torch.arange(count).split(AT_ONCE)
            ]
            return tuple(map(torch.cat, zip(*parts, strict=True), (0, 1))) if trajectory else torch.cat(parts)
        condition = None if condition is None else condition.to(self.mean.device)
        levels = self.levels(steps).tolist()
        raising = 1 + min(churn / steps, math.sqrt(2) - 1)
        size = (count, *self.shape)
        x = self.mean + torch.hypot(self.sigma_max, self.sigma_data) * self._draw(torch.randn, size, generator)
        estimates = []
        for sigma, following in pairwise(levels):
            if churn:
                raised = raising * sigma
                x = x + math.sqrt(raised**2 - sigma**2) * self._draw(torch.randn, size, generator)
                sigma = raised
            slope = self(x, sigma, condition)
            if trajectory:
                estimates.append(x - sigma * slope)
            if sampler == "heun" and following:
                slope = (slope + self(x + (following - sigma) * slope, following, condition)) / 2
            x = x + (following - sigma) * slope
        return (x, torch.stack(estimates)) if trajectory else x

    def _draw(self, draw: Callable, size: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        device = self.mean.device if generator is None else generator.device
        return draw(size, generator=generator, device=device).to(self.mean)

    def _column(self, sigma: Tensor | float, x: Tensor) -> Tensor:
        """σ in a shape that multiplies the items ``x``."""
        sigma = sigma.to(x) if isinstance(sigma, Tensor) else x.new_full((), sigma)
        if sigma.ndim and sigma.shape != x.shape[:1]:
            raise ValueError(f"sigma: wanted one noise level for each of {len(x)} items, got shape {tuple(sigma.shape)}")
        return sigma.expand(len(x)).view(-1, *(1 for _ in self.shape))

    def _check_shape(self, name: str, items: Tensor) -> None:
        if tuple(items.shape[1:]) != self.shape:
            wanted = ", ".join(map(str, ("batch", *self.shape)))
            raise ValueError(f"{name}: wanted items of shape ({wanted}), got {tuple(items.shape)}")


def ema(model: nn.Module, decay: float = 0.999) -> AveragedModel:
    """Exponential moving average of a model's weights, itself a model: ``average.module``.

    Call ``average.update_parameters(model)`` after each step of the optimiser: average ← d · average + (1 - d) · weights.
    In update n, d is ``decay`` or (1 + n) / (10 + n), whichever is smaller: after few steps it is an average over about
    their last tenth, and the initial weights are soon forgotten. ``state_dict`` has all that a checkpoint needs.

    Raises
    ------
    ValueError
        ``decay`` outside of [0, 1).
    """
    if not 0 <= decay < 1:
        raise ValueError(f"decay: wanted a number in [0, 1), got {decay}")

    def update(average: list[Tensor], weights: list[Tensor], updates: Tensor) -> None:
        n = int(updates)
        get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))(average, weights, updates)

    return AveragedModel(model, multi_avg_fn=update).requires_grad_(False)


def _principal_deviation(centred: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Standard deviation of centred points along their first principal axis, by power iteration."""
    direction = centred[centred.square().sum(1).argmax()]
    for _ in range(20):
        direction = normalize(centred.T @ (centred @ direction), dim=0)
    return (centred @ direction).square().mean().sqrt()


def _check_finite(name: str, items: Tensor) -> None:
    if not torch.isfinite(items).all():
        first = int((~torch.isfinite(items)).flatten(1).any(1).nonzero()[0])
        raise ValueError(f"{name}: wanted finite numbers, got NaN or infinity in item {first}")


def _check_name(name: str, value: str, names: tuple[str, ...]) -> None:
    if value not in names:
        raise ValueError(f"{name}: wanted one of {', '.join(map(repr, names))}, got {value!r}")
