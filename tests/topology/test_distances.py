from __future__ import annotations

import gudhi
import numpy as np
import persim
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.stats import wasserstein_distance

from topo_utils.topology import (
    Diagram,
    bottleneck,
    pairwise_distances,
    persistent_homology,
    sliced_wasserstein,
    wasserstein,
)


def diagram_of(stream, bars):
    births = stream.random(bars)
    points = torch.from_numpy(np.stack([births, births + stream.uniform(0.01, 1, bars)], 1).reshape(-1, 2))
    return Diagram(points, torch.ones(bars, dtype=torch.bool))


pairs = st.tuples(st.integers(0, 10**6), st.integers(0, 9), st.integers(0, 9)).map(
    lambda case: tuple(diagram_of(np.random.default_rng(case[0] + i), case[1 + i]) for i in range(2))
)


def by_hand(x, y, order):
    """All bars and all their projections to the diagonal, as one assignment problem in which diagonal points are free."""
    a, b = x.points.numpy(), y.points.numpy()
    left, right = (
        np.concatenate([a, np.repeat(b.mean(1), 2).reshape(-1, 2)]),
        np.concatenate([b, np.repeat(a.mean(1), 2).reshape(-1, 2)]),
    )
    costs = np.linalg.norm(left[:, None] - right[None], axis=-1) ** order
    costs[len(a) :, len(b) :] = 0
    rows, columns = linear_sum_assignment(costs)
    return costs[rows, columns].sum() ** (1 / order)


@settings(deadline=None, max_examples=40)
@given(pairs)
def test_bottleneck_is_gudhis(pair):
    expected = gudhi.bottleneck_distance(*(d.points.numpy() for d in pair))
    assert bottleneck(*pair) == pytest.approx(expected, abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(pairs, st.sampled_from([1, 2]))
def test_wasserstein_is_the_assignment_problem(pair, order):
    assert wasserstein(*pair, order).item() == pytest.approx(by_hand(*pair, order), abs=1e-9)


@settings(deadline=None, max_examples=20)
@given(pairs)
def test_wasserstein_of_order_one_is_persims(pair):
    if all(len(d.points) for d in pair):
        assert wasserstein(*pair, 1).item() == pytest.approx(
            persim.wasserstein(*(d.points.numpy() for d in pair)), abs=1e-9
        )


def test_a_lone_bar_is_as_far_as_the_diagonal():
    """A bar [0, 1] against nothing: 0.7071, where torch-topological says 0.5."""
    bar, nothing = diagram_of(np.random.default_rng(0), 1), diagram_of(np.random.default_rng(0), 0)
    bar = Diagram(torch.tensor([[0.0, 1.0]], dtype=torch.float64), bar.mask)
    for order in (1, 2):
        assert wasserstein(bar, nothing, order).item() == pytest.approx(0.5**0.5)
    assert bottleneck(bar, nothing) == 0.5
    assert bottleneck(nothing, nothing) == 0
    assert wasserstein(nothing, nothing).item() == 0


@settings(deadline=None, max_examples=30)
@given(pairs)
def test_sliced_wasserstein_is_persims(pair):
    if all(len(d.points) for d in pair):
        expected = persim.sliced_wasserstein(*(d.points.numpy() for d in pair), M=20)
        assert sliced_wasserstein(*pair, 20).item() == pytest.approx(expected, abs=1e-6)  # persim's is float32


@settings(deadline=None, max_examples=30)
@given(pairs)
def test_sliced_wasserstein_is_the_mean_over_scipys_on_lines(pair):
    x, y = (d.points.numpy() for d in pair)
    if not len(x) + len(y):
        return
    left = np.concatenate([x, np.repeat(y.mean(1), 2).reshape(-1, 2)])
    right = np.concatenate([y, np.repeat(x.mean(1), 2).reshape(-1, 2)])
    lines = [(np.cos(a), np.sin(a)) for a in np.pi * (np.arange(20) / 20 - 0.5)]
    expected = np.mean([len(left) * wasserstein_distance(left @ line, right @ line) for line in lines])
    assert sliced_wasserstein(*pair, 20).item() == pytest.approx(expected, abs=1e-9)


@settings(deadline=None, max_examples=20)
@given(pairs, pairs)
def test_they_are_metrics(pair, other):
    x, y, z = *pair, other[0]
    for distance in (bottleneck, wasserstein, sliced_wasserstein, lambda a, b: wasserstein(a, b, 1)):
        assert float(distance(x, x)) == pytest.approx(0, abs=1e-12)
        assert float(distance(x, y)) == pytest.approx(float(distance(y, x)), abs=1e-9)
        assert float(distance(x, z)) <= float(distance(x, y)) + float(distance(y, z)) + 1e-9


@pytest.mark.parametrize("distance", [wasserstein, lambda x, y: wasserstein(x, y, 1), sliced_wasserstein])
def test_gradcheck_and_no_nan_at_zero(distance):
    stream = np.random.default_rng(4)
    x, y = diagram_of(stream, 5), diagram_of(stream, 3)
    points = x.points.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda p: distance(Diagram(p, x.mask), y), points)
    (gradient,) = torch.autograd.grad(distance(Diagram(points, x.mask), x), points)
    assert not gradient.any()


def test_a_batch_is_a_loop_and_padding_counts_for_nothing():
    x, y = (persistent_homology(pairwise_distances(torch.randn(3, 15, 2, dtype=torch.float64)))[1] for _ in range(2))
    for distance in (wasserstein, sliced_wasserstein):
        together = distance(x, y)
        for cloud in range(3):
            alone = (Diagram(d.points[cloud][d.mask[cloud]], d.mask[cloud][d.mask[cloud]]) for d in (x, y))
            torch.testing.assert_close(together[cloud], distance(*alone))


def test_wrong_use_is_named():
    x, y = (persistent_homology(pairwise_distances(torch.randn(n, 15, 2)))[1] for n in (2, 3))
    for distance in (wasserstein, sliced_wasserstein):
        with pytest.raises(ValueError, match="same batch shape"):
            distance(x, y)
    with pytest.raises(ValueError, match="order: wanted one of 1, 2, got 3"):
        wasserstein(x, x, 3)
    with pytest.raises(ValueError, match="directions: wanted at least 1"):
        sliced_wasserstein(x, x, 0)
    with pytest.raises(ValueError, match="x: wanted a single diagram"):
        bottleneck(x, x)
    with pytest.raises(TypeError, match=r"x: wanted a Diagram .* got Tensor"):
        bottleneck(x.points, x)
    with pytest.raises(TypeError, match=r"directions: wanted a whole number, got 2.5"):
        sliced_wasserstein(x, x, 2.5)
