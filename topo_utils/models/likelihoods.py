"""p(x|z) of each domain: what a decoder puts out, what that says of an item, and the item that it stands for.

``nats`` is -log p(x|z) summed over an item; ``mean`` is the expected item, in the form of the data, so that it can be
drawn, compared and encoded again.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot

if TYPE_CHECKING:
    from jaxtyping import Float


class Likelihood(nn.Module, ABC):
    """A family of distributions over items.

    Attributes
    ----------
    outputs
        Shape of what the decoder puts out for one item.
    discrete
        Whether items are made of choices, so that squared errors say little.
    """

    outputs: tuple[int, ...]
    discrete: ClassVar[bool] = False

    @abstractmethod
    def nats(self, parameters: Float[Tensor, "batch ..."], x: Float[Tensor, "batch ..."]) -> Float[Tensor, " batch"]:
        """-log p(x|z), summed over the item."""

    @abstractmethod
    def mean(self, parameters: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """Expected item; differentiable."""

    def least_nats(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, " batch"]:
        """What the parameters that fit each item best leave of ``nats``, up to a constant: 0 where they say it for sure."""
        return x.new_zeros(len(x))

    def round(self, items: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """The most probable item, given the expected one: real-valued items as they are."""
        return items


class Bernoulli(Likelihood):
    """Independent pixels. Grey values in [0, 1] are read as probabilities.

    So the reconstruction term is a cross-entropy whose minimum is not zero; it ranks models but is no normalised likelihood
    of grey values.
    """

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        self.outputs = tuple(shape)

    def nats(self, parameters: Tensor, x: Tensor) -> Tensor:
        return binary_cross_entropy_with_logits(parameters, x, reduction="none").flatten(1).sum(1)

    def least_nats(self, x: Tensor) -> Tensor:
        """The entropy of the pixels, which is not zero between black and white: 45 nats of a digit of MNIST."""
        return (torch.special.entr(x) + torch.special.entr(1 - x)).flatten(1).sum(1)

    def mean(self, parameters: Tensor) -> Tensor:
        return torch.sigmoid(parameters)


class Edges(Likelihood):
    """Independent edges of an undirected graph in a canonical order of its nodes, ``(nodes, nodes)``."""

    discrete = True

    def __init__(self, nodes: int):
        super().__init__()
        self.nodes, self.outputs = nodes, (nodes * (nodes - 1) // 2,)
        self.register_buffer("upper", torch.triu_indices(nodes, nodes, 1), persistent=False)

    def nats(self, parameters: Tensor, x: Tensor) -> Tensor:
        edges = x[:, self.upper[0], self.upper[1]]
        return binary_cross_entropy_with_logits(parameters, edges, reduction="none").sum(1)

    def mean(self, parameters: Tensor) -> Tensor:
        adjacency = parameters.new_zeros(len(parameters), self.nodes, self.nodes)
        adjacency[:, self.upper[0], self.upper[1]] = torch.sigmoid(parameters)
        return adjacency + adjacency.mT

    def round(self, items: Tensor) -> Tensor:
        return (items > 0.5).to(items)


class Categories(Likelihood):
    """Independent one-hot groups, laid out one after the other: ``groups`` holds pairs (number of groups, categories)."""

    discrete = True

    def __init__(self, groups: tuple[tuple[int, int], ...]):
        super().__init__()
        self.groups = groups
        self.outputs = (sum(number * categories for number, categories in groups),)

    def nats(self, parameters: Tensor, x: Tensor) -> Tensor:
        pairs = zip(self._split(parameters), self._split(x), strict=True)
        return sum(cross_entropy(p.mT, q.mT, reduction="none").sum(1) for p, q in pairs)

    def mean(self, parameters: Tensor) -> Tensor:
        return torch.cat([part.softmax(2).flatten(1) for part in self._split(parameters)], dim=1)

    def round(self, items: Tensor) -> Tensor:
        hard = [one_hot(part.argmax(2), part.shape[2]).to(items) for part in self._split(items)]
        return torch.cat([part.flatten(1) for part in hard], dim=1)

    def _split(self, flat: Tensor) -> list[Tensor]:
        """Each ``(batch, number, categories)``."""
        parts = flat.split([number * categories for number, categories in self.groups], dim=1)
        return [part.unflatten(1, group) for part, group in zip(parts, self.groups, strict=True)]


class Gaussian(Likelihood):
    """Independent coordinates with one learned variance for all of them (σ-VAE: Rybkin et al., ICML 2021)."""

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        self.outputs = tuple(shape)
        self.log_variance = nn.Parameter(torch.zeros(()))

    def nats(self, parameters: Tensor, x: Tensor) -> Tensor:
        # softly bounded, as in the paper, lest a perfect fit of few items diverge
        log_variance = -8 + nn.functional.softplus(self.log_variance + 8)
        squares = (x - parameters).square() / log_variance.exp()
        return (squares + log_variance + math.log(2 * math.pi)).flatten(1).sum(1) / 2

    def mean(self, parameters: Tensor) -> Tensor:
        return parameters
