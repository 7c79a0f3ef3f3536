"""Encoders and decoders for each domain: items to vectors and back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from topo_utils.datasets import molecules
from topo_utils.models.likelihoods import Bernoulli, Categories, Edges, Gaussian, Likelihood

if TYPE_CHECKING:
    from jaxtyping import Float

SLOTS, KINDS = molecules.ATOMS, len(molecules.VALENCES)  # places for atoms; what can be in one, nothing first
PAIRS, ORDERS = len(molecules.PAIRS), len(molecules.ORDERS)  # pairs of places; what can join two, nothing first
DOMAINS = ("images", "masks", "molecules", "proteins", "graphs", "points")


def likelihood(domain: str, shape: tuple[int, ...]) -> Likelihood:
    """That of a domain's items: Bernoulli pixels or edges, categorical atoms and bonds, Gaussian coordinates."""
    if domain in ("images", "masks"):
        return Bernoulli(shape)
    if domain == "graphs":
        return Edges(shape[0])
    if domain == "molecules":
        return Categories(((SLOTS, KINDS), (PAIRS, ORDERS)))
    if domain in ("proteins", "points"):
        return Gaussian(shape)
    raise ValueError(f"domain: wanted one of {', '.join(DOMAINS)}, got {domain!r}")


def encoder(domain: str, shape: tuple[int, ...], width: int, out: int) -> nn.Module:
    """Items ``(batch, *shape)`` to ``(batch, out)``.

    Convolutions for images; fully connected layers for all others: graphs and molecules come in a canonical order, proteins
    are superposed.
    """
    if domain in ("images", "masks"):
        return conv_encoder(shape, width, out)
    return nn.Sequential(nn.Flatten(), mlp(math.prod(shape), 8 * width, out))


def invariant_encoder(domain: str, shape: tuple[int, ...], width: int, out: int) -> nn.Module:
    """As :func:`encoder`, but by message passing for graphs and molecules: the order of the nodes does not count."""
    if domain == "graphs":
        return GraphEncoder(1, 1, 4 * width, out)
    if domain == "molecules":
        return MoleculeEncoder(4 * width, out)
    return encoder(domain, shape, width, out)


def decoder(domain: str, shape: tuple[int, ...], width: int, inputs: int) -> nn.Module:
    """Vectors ``(batch, inputs)`` to the parameters of the domain's likelihood."""
    if domain in ("images", "masks"):
        return conv_decoder(shape, width, inputs)
    outputs = likelihood(domain, shape).outputs
    return nn.Sequential(mlp(inputs, 8 * width, math.prod(outputs)), nn.Unflatten(1, outputs))


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
