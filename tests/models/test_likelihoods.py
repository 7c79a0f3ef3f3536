from __future__ import annotations

import pytest
import torch
from torch import distributions

from topo_utils.models.likelihoods import Bernoulli, Categories, Edges, Gaussian


def test_pixels_are_torchs_bernoulli():
    logits, x = torch.randn(2, 1, 4, 4), torch.randint(2, (2, 1, 4, 4)).float()
    likelihood = Bernoulli((1, 4, 4))
    expected = -distributions.Bernoulli(logits=logits).log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(likelihood.nats(logits, x), expected)
    torch.testing.assert_close(likelihood.mean(logits), distributions.Bernoulli(logits=logits).mean)


def test_each_edge_counts_once_and_the_mean_is_a_graph():
    likelihood = Edges(5)
    logits = torch.randn(3, 10)
    x = torch.zeros(3, 5, 5)
    x[:, 0, 1] = x[:, 1, 0] = 1
    edges = torch.zeros(3, 10)
    edges[:, 0] = 1
    torch.testing.assert_close(likelihood.nats(logits, x), -distributions.Bernoulli(logits=logits).log_prob(edges).sum(1))
    mean = likelihood.mean(logits)
    assert torch.equal(mean, mean.mT)
    assert not mean.diagonal(dim1=1, dim2=2).any()
    assert set(likelihood.round(mean).unique().tolist()) <= {0.0, 1.0}


def test_groups_are_torchs_categories():
    likelihood = Categories(((2, 3), (4, 5)))
    assert likelihood.outputs == (26,)
    logits = torch.randn(7, 26)
    x = likelihood.round(torch.randn(7, 26))
    first, second = logits[:, :6].view(7, 2, 3), logits[:, 6:].view(7, 4, 5)
    expected = sum(
        -distributions.OneHotCategorical(logits=part).log_prob(wanted).sum(1)
        for part, wanted in ((first, x[:, :6].view(7, 2, 3)), (second, x[:, 6:].view(7, 4, 5)))
    )
    torch.testing.assert_close(likelihood.nats(logits, x), expected)
    mean = likelihood.mean(logits)
    torch.testing.assert_close(mean[:, :3].sum(1), torch.ones(7))
    assert (x.view(7, 26)[:, :6].view(7, 2, 3).sum(2) == 1).all()
    assert torch.equal(likelihood.round(likelihood.mean(logits)), likelihood.round(logits))


def test_coordinates_are_torchs_normal_and_the_variance_is_learned():
    likelihood = Gaussian((6,))
    x, mean = torch.randn(400, 6), torch.zeros(400, 6)
    optimizer = torch.optim.Adam(likelihood.parameters(), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        likelihood.nats(mean, 3 * x).mean().backward()
        optimizer.step()
    expected = -distributions.Normal(0.0, 3 * x.square().mean().sqrt()).log_prob(3 * x).sum(1)
    torch.testing.assert_close(likelihood.nats(mean, 3 * x), expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("likelihood", [Bernoulli((1, 4, 4)), Edges(5), Categories(((2, 3),)), Gaussian((6,))])
def test_what_fits_costs_less(likelihood):
    x = likelihood.round(likelihood.mean(torch.randn(8, *likelihood.outputs)))
    parameters = torch.zeros(8, *likelihood.outputs, requires_grad=True)
    before = likelihood.nats(parameters, x).sum()
    (gradient,) = torch.autograd.grad(before, parameters)
    assert likelihood.nats(parameters - 0.1 * gradient, x).sum() < before
