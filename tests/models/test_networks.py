from __future__ import annotations

import pytest
import torch

from topo_utils.models import networks
from topo_utils.models.networks import ORDERS, PAIRS, SLOTS, GraphEncoder, MoleculeEncoder


def graph(nodes=32, present=12):
    adjacency = torch.zeros(4, nodes, nodes)
    edges = (torch.rand(4, present, present) < 0.4).float().triu(1)
    adjacency[:, :present, :present] = edges + edges.mT
    return adjacency


def test_graphs_are_seen_without_the_order_of_their_nodes():
    encoder, adjacency, order = GraphEncoder(1, 1, 16, 5), graph(), torch.randperm(32)
    torch.testing.assert_close(encoder(adjacency), encoder(adjacency[:, order][:, :, order]), rtol=1e-4, atol=1e-5)
    rewired = adjacency.clone()
    rewired[:, 0, 1] = rewired[:, 1, 0] = 1 - adjacency[:, 0, 1]
    assert not torch.allclose(encoder(adjacency), encoder(rewired))


def test_molecules_are_seen_without_the_order_of_their_atoms():
    likelihood, encoder = networks.likelihood("molecules", (189,)), MoleculeEncoder(16, 5)
    items = likelihood.round(torch.randn(3, 189))
    order = torch.randperm(SLOTS)
    atoms, bonds = items[:, :45].view(3, SLOTS, 5), items[:, 45:].view(3, PAIRS, ORDERS)
    upper = torch.triu_indices(SLOTS, SLOTS, 1)
    dense = torch.zeros(3, SLOTS, SLOTS, ORDERS)
    dense[:, upper[0], upper[1]] = bonds
    dense = (dense + dense.transpose(1, 2))[:, order][:, :, order]
    relabelled = torch.cat([atoms[:, order].flatten(1), dense[:, upper[0], upper[1]].flatten(1)], 1)
    assert not torch.equal(relabelled, items)
    torch.testing.assert_close(encoder(items), encoder(relabelled), rtol=1e-4, atol=1e-5)


def test_the_gradient_reaches_the_edges():
    adjacency = graph().requires_grad_()
    (gradient,) = torch.autograd.grad(GraphEncoder(1, 1, 16, 5)(adjacency).sum(), adjacency)
    assert gradient.abs().sum() > 0


def test_unknown_domains_and_odd_images_are_named():
    with pytest.raises(ValueError, match="domain: wanted one of images, masks"):
        networks.likelihood("videos", (3,))
    with pytest.raises(ValueError, match="multiples of 4"):
        networks.encoder("images", (1, 30, 30), 4, 2)
