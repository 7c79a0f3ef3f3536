"""Networks of each domain: items to vectors and back, and the denoiser; one table says which domain has which."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample

from topo_utils.datasets import molecules
from topo_utils.models.likelihoods import Bernoulli, Categories, Edges, Gaussian, Likelihood
from topo_utils.models.unet import ResidualMLP, UNet

if TYPE_CHECKING:
    from jaxtyping import Float

SLOTS, KINDS = molecules.ATOMS, len(molecules.VALENCES)  # places for atoms; what can be in one, nothing first
PAIRS, ORDERS = len(molecules.PAIRS), len(molecules.ORDERS)  # pairs of places; what can join two, nothing first


def dense_encoder(shape: tuple[int, ...], width: int, out: int) -> nn.Module:
    """Items ``(batch, *shape)`` to ``(batch, out)`` by fully connected layers."""
    return nn.Sequential(nn.Flatten(), mlp(math.prod(shape), 8 * width, out))


def dense_decoder(shape: tuple[int, ...], width: int, inputs: int) -> nn.Module:
    """Vectors ``(batch, inputs)`` to ``(batch, *shape)`` by fully connected layers."""
    return nn.Sequential(mlp(inputs, 8 * width, math.prod(shape)), nn.Unflatten(1, shape))


def dense_denoiser(shape: tuple[int, ...], width: int, classes: int | None) -> nn.Module:
    """A residual network of fully connected layers."""
    return ResidualMLP(shape, 8 * width, classes=classes)


def mlp(inputs: int, width: int, out: int) -> nn.Sequential:
    """Three hidden layers of one width."""
    layers = [nn.Linear(inputs, width), nn.SiLU()]
    for _ in range(2):
        layers += [nn.Linear(width, width), nn.LayerNorm(width), nn.SiLU()]
    return nn.Sequential(*layers, nn.Linear(width, out))


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


class GraphEncoder(nn.Module):
    """Message passing on dense graphs, ``(batch, nodes, nodes)`` of edge probabilities in [0, 1], differentiable in them.

    h_i ← h_i + f(h_i, Σ_c Σ_j A_cij W_c h_j) for each layer, then the sum over the nodes: the same for every order of the
    nodes (Gilmer et al., "Neural message passing for quantum chemistry", ICML 2017; relations c as in Schlichtkrull et al.,
    ESWC 2018). Nodes start from what they are and from their degrees.
    """

    def __init__(self, node_channels: int, relations: int, width: int, out: int, layers: int = 3):
        super().__init__()
        self.start = nn.Linear(node_channels + relations, width)
        self.messages = nn.ModuleList(nn.Linear(width, relations * width, bias=False) for _ in range(layers))
        self.updates = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(2 * width), nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width))
            for _ in range(layers)
        )
        self.head = nn.Sequential(nn.Linear(2 * width, width), nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, out))

    def forward(self, adjacency: Float[Tensor, "batch n n"]) -> Float[Tensor, "batch out"]:
        """Of graphs with one relation whose nodes are all alike; a node without an edge is absent."""
        present = adjacency.amax(2, keepdim=True)
        return self.encode(present, adjacency[:, None])

    def encode(
        self, nodes: Float[Tensor, "batch n channels"], edges: Float[Tensor, "batch relations n n"]
    ) -> Float[Tensor, "batch out"]:
        """Of graphs with features of nodes and several relations."""
        degrees = edges.sum(3).mT
        states = self.start(torch.cat([nodes, degrees / 4], dim=2))
        for message, update in zip(self.messages, self.updates, strict=True):
            sent = message(states).unflatten(2, (edges.shape[1], -1))
            received = torch.einsum("brij,bjrw->biw", edges, sent)
            states = states + update(torch.cat([states, received], dim=2))
        there = nodes.amax(2, keepdim=True).clamp(max=1)
        total = (states * there).sum(1)
        return self.head(torch.cat([total / 8, total / there.sum(1).clamp(min=1)], dim=1))


class MoleculeEncoder(GraphEncoder):
    """:class:`GraphEncoder` of molecules in the form of :mod:`topo_utils.datasets.molecules`, bonds as relations."""

    def __init__(self, width: int, out: int, layers: int = 3):
        super().__init__(KINDS - 1, ORDERS - 1, width, out, layers)
        self.register_buffer("upper", torch.triu_indices(SLOTS, SLOTS, 1), persistent=False)

    def forward(self, items: Float[Tensor, "batch size"]) -> Float[Tensor, "batch out"]:
        """Of one-hot molecules, or of the probabilities of a decoder."""
        atoms = items[:, : SLOTS * KINDS].unflatten(1, (SLOTS, KINDS))[..., 1:]
        bonds = items[:, SLOTS * KINDS :].unflatten(1, (PAIRS, ORDERS))[..., 1:]
        edges = items.new_zeros(len(items), ORDERS - 1, SLOTS, SLOTS)
        edges[:, :, self.upper[0], self.upper[1]] = bonds.mT
        return self.encode(atoms, edges + edges.mT)


def _check(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    if len(shape) != 3 or shape[1] % 4 or shape[2] % 4 or min(shape) < 1:
        raise ValueError(f"shape: wanted (channels, height, width) with sides that are multiples of 4, got {shape}")
    return shape


def jittered(x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch c h w"]:
    """Each image under its own small similarity: turned by 0.2 at most, scaled by 10 %, shifted by 5 % of a side."""
    angle, factor, dx, dy = (2 * torch.rand(4, len(x)) - 1) * torch.tensor([0.2, 0.1, 0.1, 0.1])[:, None]
    cos, sin = (1 + factor) * angle.cos(), (1 + factor) * angle.sin()
    maps = torch.stack([torch.stack([cos, -sin, dx], 1), torch.stack([sin, cos, dy], 1)], 1)
    return grid_sample(x, affine_grid(maps, list(x.shape), align_corners=False), align_corners=False)


@dataclass(frozen=True)
class Architecture:
    """The networks of a domain. What is not said is fully connected; a factory takes a shape, a width and a size.

    Attributes
    ----------
    likelihood
        p(x|z), from the shape of an item.
    encoder
        Items to vectors, from (shape, width, out).
    decoder
        Vectors to the likelihood's parameters, from (their shape, width, inputs).
    denoiser
        Of the diffusion model, from (shape, width, classes).
    invariant_encoder
        As ``encoder``, for F and the judge, where the order in which an item's parts are given must not count.
    features
        Whether F is trained; else the items are features already.
    feature_steps
        Steps of F's training that suffice.
    augmented
        What the judge, and an augmented F, see of a batch while they are trained.
    """

    likelihood: Callable[[tuple[int, ...]], Likelihood]
    encoder: Callable[[tuple[int, ...], int, int], nn.Module] = dense_encoder
    decoder: Callable[[tuple[int, ...], int, int], nn.Module] = dense_decoder
    denoiser: Callable[[tuple[int, ...], int, int | None], nn.Module] = dense_denoiser
    invariant_encoder: Callable[[tuple[int, ...], int, int], nn.Module] | None = None
    features: bool = True
    feature_steps: int = 2000
    augmented: Callable[[Tensor], Tensor] | None = None


IMAGES = Architecture(Bernoulli, conv_encoder, conv_decoder, UNet, augmented=jittered)

#: By the domain's name. A domain is its module in :mod:`topo_utils.datasets`, one line there, and one entry here.
ARCHITECTURES: dict[str, Architecture] = {
    "images": IMAGES,
    "masks": replace(IMAGES, augmented=None),
    "molecules": Architecture(
        lambda shape: Categories(((SLOTS, KINDS), (PAIRS, ORDERS))),
        invariant_encoder=lambda shape, width, out: MoleculeEncoder(4 * width, out),
        feature_steps=6000,  # the decoder has to guess the order
    ),
    "proteins": Architecture(Gaussian),
    "graphs": Architecture(
        lambda shape: Edges(shape[0]),
        invariant_encoder=lambda shape, width, out: GraphEncoder(1, 1, 4 * width, out),
        feature_steps=6000,
    ),
    "points": Architecture(Gaussian, features=False),
}


def architecture(domain: str) -> Architecture:
    """That of a domain.

    Raises
    ------
    ValueError
        There is none of this name.
    """
    if domain not in ARCHITECTURES:
        raise ValueError(
            f"domain: wanted one of {', '.join(ARCHITECTURES)} (another one is added to ARCHITECTURES), got {domain!r}"
        )
    return ARCHITECTURES[domain]


def likelihood(domain: str, shape: tuple[int, ...]) -> Likelihood:
    """p(x|z) of a domain's items."""
    return architecture(domain).likelihood(shape)


def encoder(domain: str, shape: tuple[int, ...], width: int, out: int) -> nn.Module:
    """Items ``(batch, *shape)`` to ``(batch, out)``."""
    return architecture(domain).encoder(shape, width, out)


def invariant_encoder(domain: str, shape: tuple[int, ...], width: int, out: int) -> nn.Module:
    """As :func:`encoder`, but the order of an item's parts, as of a graph's nodes, does not count."""
    return (architecture(domain).invariant_encoder or architecture(domain).encoder)(shape, width, out)


def decoder(domain: str, shape: tuple[int, ...], width: int, inputs: int) -> nn.Module:
    """Vectors ``(batch, inputs)`` to the parameters of the domain's likelihood."""
    return architecture(domain).decoder(likelihood(domain, shape).outputs, width, inputs)


def denoiser(domain: str, shape: tuple[int, ...], width: int, classes: int | None = None) -> nn.Module:
    """Network of a diffusion model: noisy items, noise levels and classes to items."""
    return architecture(domain).denoiser(shape, width, classes)
