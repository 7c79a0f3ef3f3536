from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from persim.landscapes import PersLandscapeExact

from topo_utils.topology import Diagram, landscape, pairwise_distances, persistent_homology


def diagram_of(seed, bars):
    stream = np.random.default_rng(seed)
    births = stream.random(bars)
    points = torch.from_numpy(np.stack([births, births + stream.uniform(0.01, 1, bars)], 1))
    return Diagram(points, torch.ones(bars, dtype=torch.bool))


def persims(points, grid):
    """persim's exact landscape, its corners interpolated on the grid."""
    levels = PersLandscapeExact(dgms=[points], hom_deg=0)
    levels.compute_landscape()
    return np.stack([np.interp(grid, *np.array(corners).T, left=0, right=0) for corners in levels.critical_pairs])


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 12))
def test_landscapes_are_persims(seed, bars):
    diagram, grid = diagram_of(seed, bars), torch.linspace(0, 2.2, 50, dtype=torch.float64)
    ours, theirs = landscape(diagram, grid), persims(diagram.points.numpy(), grid.numpy())
    np.testing.assert_allclose(ours[: len(theirs)], theirs, atol=1e-9)
    assert not ours[len(theirs) :].any()


@given(st.integers(0, 10**6), st.integers(0, 8), st.integers(1, 12))
def test_levels_decrease_and_missing_ones_are_zero(seed, bars, levels):
    curves = landscape(diagram_of(seed, bars), torch.linspace(0, 2, 20), levels)
    assert curves.shape == (levels, 20)
    assert (curves[:-1] >= curves[1:]).all()
    assert not curves[bars:].any()


def test_a_batch_is_a_loop_and_padding_counts_for_nothing():
    diagrams = persistent_homology(pairwise_distances(torch.randn(4, 20, 2)))
    grid = torch.linspace(0, 3, 30)
    for cloud in range(4):
        mask = diagrams[1].mask[cloud]
        alone = Diagram(diagrams[1].points[cloud][mask], mask[mask])
        assert torch.equal(landscape(diagrams[1], grid, 5)[cloud], landscape(alone, grid, 5))


def test_gradcheck():
    grid = torch.linspace(0, 2, 17, dtype=torch.float64)
    diagram = diagram_of(3, 6)
    points = diagram.points.requires_grad_()
    assert torch.autograd.gradcheck(lambda p: landscape(Diagram(p, diagram.mask), grid, 4), points)


@pytest.mark.parametrize(
    ("grid", "levels", "message"),
    [
        (torch.tensor([0.0]), None, "at least two increasing values"),
        (torch.tensor([1.0, 0.0]), None, "at least two increasing values"),
        (torch.zeros(2, 2), None, "at least two increasing values"),
        (torch.tensor([0.0, torch.inf]), None, "finite"),
        (torch.tensor([0.0, 1.0]), 0, "levels: wanted at least 1"),
    ],
)
def test_bad_grids_and_levels_are_named(grid, levels, message):
    with pytest.raises(ValueError, match=message):
        landscape(diagram_of(0, 3), grid, levels)
