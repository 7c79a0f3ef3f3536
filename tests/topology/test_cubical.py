from __future__ import annotations

import gudhi
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from topo_utils.topology import betti_numbers, cubical_persistence

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


CONSTRUCTIONS = {4: "vertices", 8: "top_dimensional_cells"}  # gudhi's names for what the pixels are
connectivities = pytest.mark.parametrize("connectivity", CONSTRUCTIONS)
directions = pytest.mark.parametrize("sublevel", [True, False])


@connectivities
@settings(deadline=None, max_examples=100)
@given(images)
def test_diagrams_are_gudhis(connectivity, image):
    diagrams = cubical_persistence(torch.from_numpy(image), essential="cap", connectivity=connectivity)
    complex_ = gudhi.CubicalComplex(**{CONSTRUCTIONS[connectivity]: image})
    complex_.compute_persistence()
    for dimension, diagram in enumerate(diagrams):
        theirs = complex_.persistence_intervals_in_dimension(dimension)
        theirs[np.isinf(theirs)] = image.max()
        theirs = theirs[theirs[:, 1] > theirs[:, 0]]
        np.testing.assert_array_equal(sorted_bars(diagram.points[diagram.mask]), sorted_bars(theirs))


@directions
@connectivities
@settings(deadline=None, max_examples=100)
@given(images)
def test_the_bars_alive_at_a_level_are_the_betti_numbers_of_its_mask(connectivity, sublevel, image):
    image = torch.from_numpy(image)
    values = image if sublevel else -image
    components, holes = cubical_persistence(image, sublevel, connectivity=connectivity)
    for level in values.unique():
        alive = [((d.points[:, 0] <= level) & (level < d.points[:, 1])).sum().item() for d in (components, holes)]
        mask = (values <= level)[None, None]
        assert [1 + alive[0], alive[1]] == betti_numbers(mask, connectivity=connectivity)[0].tolist()  # 1 never dies


@connectivities
@settings(deadline=None, max_examples=50)
@given(images)
def test_holes_are_components_of_the_negative_in_the_other_connectivity(connectivity, image):
    """Alexander duality; the frame is the first to enter the negative, so that what reaches the edge is one component."""
    framed = torch.nn.functional.pad(torch.from_numpy(image), (1, 1, 1, 1), value=image.max() + 1)
    _, holes = cubical_persistence(framed, connectivity=connectivity)
    components, _ = cubical_persistence(-framed, connectivity=12 - connectivity)
    np.testing.assert_array_equal(sorted_bars(holes.points), sorted_bars(-components.points.flip(-1)))


@pytest.mark.parametrize(("connectivity", "pieces", "loops"), [(8, 1, 1), (4, 4, 0)])
def test_pixels_that_touch_at_corners(connectivity, pieces, loops):
    corner, diamond = torch.eye(2), torch.tensor([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]])
    components, holes = cubical_persistence(diamond, sublevel=False, connectivity=connectivity)
    assert 1 + len(components.points) == pieces
    assert holes.points.tolist() == [[-1, 0]] * loops
    components, holes = cubical_persistence(corner, sublevel=False, connectivity=connectivity)
    assert components.points.tolist() == [[-1, 0]] * (connectivity == 4)  # the second of two
    assert not holes.mask.any()


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


@directions
@connectivities
@pytest.mark.parametrize("ties", [False, True])
def test_each_end_of_a_bar_is_the_value_of_one_pixel_and_its_gradient(connectivity, sublevel, ties):
    image = torch.rand(2, 6, 7, dtype=torch.float64)
    image = (4 * image).round() if ties else image

    def ends(x):
        return torch.cat([d.points[d.mask].flatten() for d in cubical_persistence(x, sublevel, connectivity=connectivity)])

    gradients = torch.autograd.functional.jacobian(ends, image).flatten(1)
    sign = 1 if sublevel else -1
    assert ((gradients == sign).sum(1) == 1).all()
    assert (gradients.count_nonzero(dim=1) == 1).all()
    torch.testing.assert_close(gradients @ image.flatten(), ends(image), rtol=0, atol=0)
    if not ties:
        assert torch.autograd.gradcheck(ends, image.requires_grad_())


def test_a_batch_is_a_loop():
    batch = torch.rand(2, 3, 8, 5)
    together = cubical_persistence(batch)
    for index in np.ndindex(2, 3):
        for one, alone in zip(together, cubical_persistence(batch[index]), strict=True):
            assert torch.equal(one.points[index][one.mask[index]], alone.points)


def test_flat_images_and_single_pixels():
    for connectivity in CONSTRUCTIONS:
        for image in (torch.ones(4, 4), torch.zeros(1, 1), torch.rand(1, 5)):
            assert not cubical_persistence(image, connectivity=connectivity)[1].mask.any()
        row = cubical_persistence(torch.tensor([[0.0, 2.0, 1.0]]), connectivity=connectivity)[0]
        assert row.points.tolist() == [[1.0, 2.0]]


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


def test_bad_options_are_named():
    with pytest.raises(ValueError, match="connectivity: wanted one of 4, 8, got 6"):
        cubical_persistence(torch.rand(2, 2), connectivity=6)
    with pytest.raises(ValueError, match="essential: wanted one of 'drop', 'cap', got 'keep'"):
        cubical_persistence(torch.rand(2, 2), essential="keep")
