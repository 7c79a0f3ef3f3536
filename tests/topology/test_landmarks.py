from __future__ import annotations

import itertools

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from topo_utils.topology import bottleneck, max_min_landmarks, pairwise_distances, persistent_homology, rips, witness

clouds = arrays.arrays(  # with ties and equal points
    np.int64, st.tuples(st.integers(6, 24), st.integers(1, 3)), elements=st.integers(-50, 50)
).map(lambda cloud: torch.from_numpy(cloud / 8))


@given(clouds, st.integers(2, 6), st.integers(0, 5))
def test_each_landmark_is_farthest_from_those_before_it(cloud, count, first):
    indices, radius = max_min_landmarks(cloud, count, first)
    indices = indices.numpy()
    apart = cdist(cloud, cloud)
    assert indices[0] == first
    for place in range(1, count):
        nearest = apart[indices[:place]].min(0)
        assert nearest[indices[place]] == pytest.approx(nearest.max(), rel=1e-12)
    assert radius == pytest.approx(apart[indices].min(0).max(), rel=1e-12, abs=1e-12)


@given(clouds, st.integers(2, 5))
def test_the_radius_is_at_most_twice_that_of_the_best_choice(cloud, count):
    cloud = cloud[:9]
    apart = cdist(cloud, cloud)
    best = min(
        apart[list(choice)].min(0).max() for choice in itertools.combinations(range(len(cloud)), min(count, len(cloud)))
    )
    assert max_min_landmarks(cloud, min(count, len(cloud))).radius <= 2 * best * (1 + 1e-12)


@settings(deadline=None)
@given(clouds, st.integers(2, 6))
def test_the_bars_of_the_landmarks_are_the_clouds_up_to_twice_the_radius(cloud, count):
    indices, radius = max_min_landmarks(cloud, count)
    whole, few = (persistent_homology(rips(pairwise_distances(each))) for each in (cloud, cloud[indices]))
    for one, other in zip(whole, few, strict=True):
        assert bottleneck(one, other) <= 2 * radius * (1 + 1e-9) + 1e-12


def test_all_points_as_landmarks_leave_none_out():
    cloud = torch.randn(12, 2)
    indices, radius = max_min_landmarks(cloud, 12)
    assert sorted(indices.tolist()) == list(range(12))
    assert radius == 0


@settings(deadline=None)
@given(clouds, st.integers(2, 6), st.integers(0, 2))
def test_edges_enter_as_the_definition_says(cloud, count, nu):
    landmarks = max_min_landmarks(cloud, count).indices
    if len(landmarks.unique()) < count:  # equal points
        return
    to = cdist(cloud[landmarks], cloud)
    slack = np.sort(to, axis=0)[nu - 1] if nu else np.zeros(len(cloud))
    wanted = [[0 if a is b else max(0, (np.maximum(a, b) - slack).min()) for a in to] for b in to]
    weights = witness(cloud, landmarks, nu)
    np.testing.assert_allclose(weights, np.array(wanted), rtol=1e-9, atol=1e-9)
    assert torch.equal(weights, weights.T)


def test_a_witness_between_two_landmarks():
    """By hand: landmarks at 0, 4 and 10, and a point at 1, which has 0 and 4 within 3 and its nearest landmark at 1."""
    cloud = torch.tensor([[0.0], [4.0], [10.0], [1.0]], requires_grad=True)
    landmarks = torch.tensor([0, 1, 2])
    assert witness(cloud, landmarks, 0).tolist() == [[0, 3, 6], [3, 0, 6], [6, 6, 0]]
    weights = witness(cloud, landmarks, 1)
    assert weights.tolist() == [[0, 2, 6], [2, 0, 6], [6, 6, 0]]
    (gradient,) = torch.autograd.grad(weights[0, 1], cloud)  # |4 - 1| - |1 - 0|
    assert gradient.flatten().tolist() == [1, 1, 0, -2]


@pytest.mark.parametrize("nu", [1, 2])
def test_a_circle_of_ten_thousand_points_by_forty(nu):
    angle = 2 * torch.pi * torch.rand(10_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    circle = torch.stack([angle.cos(), angle.sin()], 1)
    landmarks, radius = max_min_landmarks(circle, 40)
    _, loops = persistent_homology(witness(circle, landmarks, nu))
    assert radius < 0.2
    ((birth, death),) = loops.points.tolist()
    assert birth < 0.01 if nu == 1 else birth == 0  # next landmarks are joined by a point half way, by their ν-th nearest
    assert death == pytest.approx(1, abs=nu * radius)  # two of three landmarks, a third of the way apart, from half way


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: max_min_landmarks(x, 1), ValueError, "count: wanted 2 <= count < 9"),
        (lambda x: max_min_landmarks(x, 9), ValueError, "count: wanted 2 <= count < 9"),
        (lambda x: max_min_landmarks(x, 4, 8), ValueError, "first: wanted 0 <= first < 8"),
        (lambda x: max_min_landmarks(x.expand(2, 8, 2), 4), ValueError, r"one cloud \(n, d\)"),
        (lambda x: witness(x * torch.nan, torch.tensor([0, 1])), ValueError, "finite"),
        (lambda x: witness(x, torch.tensor([0, 8])), ValueError, r"landmarks: .* of 8 points, got \[0, 8\]"),
        (lambda x: witness(x, torch.tensor([1, 1])), ValueError, "different"),
        (lambda x: witness(x, torch.tensor([1])), ValueError, "two or more"),
        (lambda x: witness(x, torch.tensor([0.0, 1.0])), TypeError, "int64"),
        (lambda x: witness(x, torch.tensor([0, 1]), 3), ValueError, "nu: wanted 0 <= nu < 3"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call(torch.randn(8, 2))
