from __future__ import annotations

import gudhi
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from topo_utils.topology import cubical_persistence

images = st.tuples(
    st.integers(1, 9), st.integers(1, 9), st.integers(0, 10**6), st.booleans()
).map(
    lambda case: (
        np.random.default_rng(case[2]).integers(0, 4, case[:2]).astype(float)  # ties
        if case[3]
        else np.random.default_rng(case[2]).random(case[:2])
    )
)


def sorted_bars(points):
    points = np.asarray(points).reshape(-1, 2)
    return points[np.lexsort(points.T[::-1])]


@settings(deadline=None, max_examples=100)
@given(images)
def test_diagrams_are_gudhis_and_the_betti_numbers_those_of_the_masks(image):
    diagrams = cubical_persistence(torch.from_numpy(image), essential="cap")
    complex_ = gudhi.CubicalComplex(top_dimensional_cells=image)
    complex_.compute_persistence()
    for dimension, diagram in enumerate(diagrams):
        theirs = complex_.persistence_intervals_in_dimension(dimension)
        theirs[np.isinf(theirs)] = image.max()
        theirs = theirs[theirs[:, 1] > theirs[:, 0]]
        np.testing.assert_array_equal(sorted_bars(diagram.points[diagram.mask]), sorted_bars(theirs))
    for level in np.unique(image)[:-1]:  # scipy counts components; the background's, less the outside, are the holes
        mask = np.pad(image <= level, 1)
        alive = [((d.points[:, 0] <= level) & (level < d.points[:, 1])).sum().item() for d in diagrams]
        eight, four = np.ones((3, 3)), None
        assert alive == [ndimage.label(mask, eight)[1], ndimage.label(~mask, four)[1] - 1]


def ring(size=9):
    image = torch.zeros(size, size, dtype=torch.float64)
    image[2:7, 2:7] = 1
    image[4, 4] = 0
    return image


def test_a_bright_ring_has_one_component_and_one_hole():
    components, holes = cubical_persistence(ring(), sublevel=False, essential="cap")
    assert components.points.tolist() == [[-1, 0]]
    assert holes.points.tolist() == [[-1, 0]]


def test_the_gradient_runs_to_the_critical_pixels():
    image = (ring() + 1e-3 * torch.rand(9, 9, dtype=torch.float64)).requires_grad_()
    _, holes = cubical_persistence(image, sublevel=False)
    longest = (holes.points[:, 1] - holes.points[:, 0]).argmax()
    holes.points[longest, 1].backward()
    assert image.grad.nonzero().tolist() == [[4, 4]]  # the hole closes when its dark pixel enters
    assert image.grad[4, 4] == -1


@pytest.mark.parametrize("sublevel", [True, False])
def test_gradcheck(sublevel):
    image = torch.rand(2, 6, 7, dtype=torch.float64, requires_grad=True)

    def points(x):
        return torch.cat([d.points.flatten() for d in cubical_persistence(x, sublevel)])

    assert torch.autograd.gradcheck(points, image)


def test_a_batch_is_a_loop():
    batch = torch.rand(2, 3, 8, 5)
    together = cubical_persistence(batch)
    for index in np.ndindex(2, 3):
        for one, alone in zip(together, cubical_persistence(batch[index]), strict=True):
            assert torch.equal(one.points[index][one.mask[index]], alone.points)


def test_flat_images_and_single_pixels():
    for image in (torch.ones(4, 4), torch.zeros(1, 1), torch.rand(1, 5)):
        assert not cubical_persistence(image)[1].mask.any()
    assert cubical_persistence(torch.tensor([[0.0, 2.0, 1.0]]))[0].points.tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (torch.rand(4), ValueError, "shape"),
        (torch.rand(0, 4), ValueError, "at least one pixel"),
        (torch.full((2, 2), torch.nan), ValueError, "finite"),
        (torch.zeros(2, 2, dtype=torch.uint8), TypeError, "float32 or float64"),
    ],
)
def test_bad_images_are_named(image, error, message):
    with pytest.raises(error, match=message):
        cubical_persistence(image)
