from __future__ import annotations

from itertools import permutations

import numpy as np
import persim
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching
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


def with_endless(endless, bars, seed=0):
    stream = np.random.default_rng(seed)
    points, _ = diagram_of(stream, bars + endless)
    points[:endless, 1] = torch.inf
    return Diagram(points[torch.from_numpy(stream.permutation(len(points)))], torch.ones(len(points), dtype=torch.bool))


# endless bars: often as many in both, and else one more in one of them
pairs_with_endless = st.tuples(
    st.integers(0, 10**6), st.integers(0, 6), st.integers(0, 6), st.integers(0, 4), st.sampled_from([0, 0, 0, 1])
).map(lambda case: (with_endless(case[3], case[1], case[0]), with_endless(case[3] + case[4], case[2], case[0] + 1)))


def bars_of(diagram):
    points = diagram.points.numpy()
    endless = np.isinf(points[:, 1])
    return points[~endless], points[endless, 0]


def by_hand(x, y, order):
    """All bars and all their projections to the diagonal, as one assignment problem in which diagonal points are free.

    Endless bars are paired in every order; where one of them is left over, the distance is infinite.
    """
    (a, births), (b, others) = bars_of(x), bars_of(y)
    if len(births) != len(others):
        return np.inf
    endless = min((np.abs(births - np.array(other)) ** order).sum() for other in permutations(others))
    left, right = (
        np.concatenate([a, np.repeat(b.mean(1), 2).reshape(-1, 2)]),
        np.concatenate([b, np.repeat(a.mean(1), 2).reshape(-1, 2)]),
    )
    costs = np.linalg.norm(left[:, None] - right[None], axis=-1) ** order
    costs[len(a) :, len(b) :] = 0
    rows, columns = linear_sum_assignment(costs)
    return (costs[rows, columns].sum() + endless) ** (1 / order)


def longest_match(x, y):
    """The least ε for which a perfect matching has no match longer than ε, with endless bars paired in every order."""
    (a, births), (b, others) = bars_of(x), bars_of(y)
    if len(births) != len(others):
        return np.inf
    endless = min(np.abs(births - other).max(initial=0) for other in map(np.array, permutations(others)))
    costs = np.zeros((len(a) + len(b),) * 2)
    costs[: len(a), : len(b)] = np.abs(a[:, None] - b[None]).max(-1)
    costs[: len(a), len(b) :] = (a[:, 1:] - a[:, :1]) / 2
    costs[len(a) :, : len(b)] = (b[:, 1] - b[:, 0]) / 2
    for epsilon in np.unique(costs):
        if (maximum_bipartite_matching(csr_array(costs <= epsilon)) >= 0).all():
            return max(epsilon, endless)
    return endless


@settings(deadline=None, max_examples=60)
@given(pairs_with_endless)
def test_bottleneck_is_the_least_of_the_longest_matches(pair):
    assert bottleneck(*pair) == pytest.approx(longest_match(*pair), rel=1e-15, abs=0)


@settings(deadline=None, max_examples=60)
@given(pairs_with_endless, st.sampled_from([1, 2]))
def test_wasserstein_with_endless_bars_is_the_assignment(pair, order):
    """gudhi's hera, which counts endless bars too, is no oracle: it breaks down on some of these pairs."""
    assert wasserstein(*pair, order).item() == pytest.approx(by_hand(*pair, order), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("distance", [bottleneck, wasserstein, lambda x, y: wasserstein(x, y, 1)])
def test_an_endless_bar_is_infinitely_far_from_any_that_ends(distance):
    for x, y in ((1, 0), (2, 1), (2, 0)):
        assert float(distance(with_endless(x, 3), with_endless(y, 3))) == float("inf")
    x, y = (Diagram(torch.tensor([[0.0, death]]), torch.tensor([True])) for death in (torch.inf, 1))
    assert float(distance(x, y)) == float(distance(y, x)) == float("inf")


def test_endless_bars_are_matched_by_birth():
    """(0, ∞), (1, ∞) with (1.25, ∞), (0.5, ∞): .5 and .25; and a bar of length 1 with the diagonal."""
    x, y = (
        Diagram(torch.tensor(bars, dtype=torch.float64), torch.ones(len(bars), dtype=torch.bool))
        for bars in ([(0, torch.inf), (2, 3), (1, torch.inf)], [(1.25, torch.inf), (0.5, torch.inf)])
    )
    assert bottleneck(x, y) == 0.5
    assert wasserstein(x, y, 1).item() == pytest.approx(0.75 + 0.5**0.5)
    assert wasserstein(x, y, 2).item() == pytest.approx((0.25 + 0.0625 + 0.5) ** 0.5)


@pytest.mark.parametrize("order", [1, 2])
def test_the_gradient_of_endless_bars_runs_to_their_births_only(order):
    x, y = with_endless(2, 3), with_endless(2, 2, seed=5)
    points = x.points.clone().requires_grad_()
    wasserstein(Diagram(points, x.mask), y, order).backward()
    assert points.grad.isfinite().all()
    endless = x.points[:, 1].isinf()
    assert points.grad[endless, 0].all()
    assert not points.grad[endless, 1].any()
    step = 1e-6 * torch.randn_like(points.grad).masked_fill(x.points.isinf(), 0)
    change = wasserstein(Diagram(x.points + step, x.mask), y, order) - wasserstein(
        Diagram(x.points - step, x.mask), y, order
    )
    assert (points.grad * step).sum().item() == pytest.approx(change.item() / 2, rel=1e-5)


def test_an_infinite_distance_has_a_zero_gradient_and_leaves_the_rest_of_the_batch_alone():
    x, y = (persistent_homology(pairwise_distances(torch.randn(2, 9, 2, dtype=torch.float64)), 0)[0] for _ in range(2))
    points = x.points.clone()
    points[0, 0, 1] = torch.inf
    points.requires_grad_()
    far, near = wasserstein(Diagram(points, x.mask), y)
    assert far.item() == float("inf")
    (gradient,) = torch.autograd.grad(far + near, points)
    assert not gradient[0].any()
    assert gradient[1].isfinite().all()
    assert gradient[1].any()


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


def is_metric(distance, x, y, z):
    """Zero on the diagonal, symmetric, and the triangle inequality."""
    xy, yx, yz, xz = (float(distance(*pair)) for pair in ((x, y), (y, x), (y, z), (x, z)))
    return float(distance(x, x)) < 1e-12 and xy == pytest.approx(yx, abs=1e-9) and xz <= xy + yz + 1e-9


@settings(deadline=None, max_examples=20)
@given(pairs, pairs)
def test_sliced_wasserstein_is_a_metric(pair, other):
    assert is_metric(sliced_wasserstein, *pair, other[0])


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.tuples(*[st.integers(0, 6)] * 3), st.integers(0, 4), st.sampled_from([0, 0, 0, 1, 2, 3]))
@pytest.mark.parametrize("distance", [bottleneck, wasserstein, lambda x, y: wasserstein(x, y, 1)])
def test_the_others_are_metrics_with_endless_bars_too(distance, seed, bars, endless, odd):
    """The odd one of the three has one endless bar more."""
    assert is_metric(distance, *(with_endless(endless + (i + 1 == odd), bars[i], seed + i) for i in range(3)))


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
