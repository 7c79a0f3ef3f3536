from __future__ import annotations

import itertools

import gudhi
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

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
SOLID = {6: "vertices", 26: "top_dimensional_cells"}
connectivities = pytest.mark.parametrize("connectivity", CONSTRUCTIONS)
solid = pytest.mark.parametrize("connectivity", SOLID)
directions = pytest.mark.parametrize("sublevel", [True, False])


@connectivities
@settings(deadline=None, max_examples=100)
@given(images)
def test_diagrams_are_gudhis(connectivity, image):
    diagrams = cubical_persistence(torch.from_numpy(image), essential="cap", connectivity=connectivity)
    compare_with_gudhi(diagrams, image, CONSTRUCTIONS[connectivity])


def compare_with_gudhi(diagrams, item, pixels_are):
    complex_ = gudhi.CubicalComplex(**{pixels_are: item})
    complex_.compute_persistence()
    assert len(diagrams) == item.ndim
    for dimension, diagram in enumerate(diagrams):
        theirs = complex_.persistence_intervals_in_dimension(dimension)
        theirs[np.isinf(theirs)] = item.max()
        theirs = theirs[theirs[:, 1] > theirs[:, 0]]
        np.testing.assert_array_equal(sorted_bars(diagram.points[diagram.mask]), sorted_bars(theirs))


@solid
@settings(deadline=None, max_examples=100)
@given(shape=st.tuples(*3 * [st.integers(1, 6)]), seed=st.integers(0, 10**6), ties=st.booleans())
def test_diagrams_of_volumes_are_gudhis(connectivity, shape, seed, ties):
    volume = np.random.default_rng(seed).random(shape)
    volume = (4 * volume).round() if ties else volume
    diagrams = cubical_persistence(torch.from_numpy(volume), essential="cap", connectivity=connectivity, axes=3)
    compare_with_gudhi(diagrams, volume, SOLID[connectivity])


@solid
@settings(deadline=None, max_examples=50)
@given(shape=st.tuples(*3 * [st.integers(1, 6)]), seed=st.integers(0, 10**6), level=st.floats(0, 1))
def test_cavities_of_a_volume_are_regions_that_the_outside_does_not_reach(connectivity, shape, seed, level):
    """By scipy's labels of the empty voxels, in the other connectivity; the Euler number then fixes the tunnels."""
    volume = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    diagrams = cubical_persistence(volume, essential="cap", connectivity=connectivity, axes=3)
    alive = [int(((d.points[:, 0] <= level) & (level < d.points[:, 1])).sum()) for d in diagrams]
    solid_ = np.pad(volume.numpy() <= level, 1)
    corners = {6: ndimage.generate_binary_structure(3, 1), 26: np.ones((3, 3, 3))}
    pieces = ndimage.label(solid_, corners[connectivity])[1]
    cavities = ndimage.label(~solid_, corners[32 - connectivity])[1] - 1
    last = bool((volume <= level).all())  # the component is capped at the last voxel
    assert [alive[0] + last, alive[2]] == [pieces, cavities]
    assert alive[0] + last - alive[1] + alive[2] == euler_number(solid_, connectivity)


def euler_number(solid_, connectivity):
    """Vertices - edges + squares - cubes, of the closed voxels or of the complex whose vertices are the voxels."""
    count, combine = 0, np.any if connectivity == 26 else np.all
    for axes in itertools.product([False, True], repeat=3):
        windows = np.lib.stride_tricks.sliding_window_view(solid_, [1 + axis for axis in axes])
        cells = int(combine(windows, axis=(3, 4, 5)).sum())
        count += (-1) ** (sum(axes) + (connectivity == 26)) * cells
    return count


def test_a_hollow_ball_has_a_cavity_and_a_solid_torus_a_tunnel():
    hollow = torch.zeros(5, 5, 5, dtype=torch.float64)
    hollow[1:4, 1:4, 1:4] = 1
    hollow[2, 2, 2] = 0.25
    found = [d.points.tolist() for d in cubical_persistence(hollow, sublevel=False, axes=3)]
    assert found == [[], [], [[-1, -0.25]]]
    torus = torch.zeros(5, 5, 3, dtype=torch.float64)
    torus[..., 1] = ring(5, 1)
    found = [d.points.tolist() for d in cubical_persistence(torus, sublevel=False, axes=3)]
    assert found == [[], [[-1, 0]], []]
    images = cubical_persistence(hollow, sublevel=False)  # the same tensor as five images
    assert [each.points.shape for each in images] == [(5, 0, 2), (5, 1, 2)]


def test_the_gradient_of_a_cavity_runs_to_two_voxels():
    volume = torch.rand(2, 4, 5, 6, dtype=torch.float64, requires_grad=True)

    def ends(x):
        return torch.cat([d.points[d.mask].flatten() for d in cubical_persistence(x, axes=3)])

    assert cubical_persistence(volume, axes=3)[2].mask.any()
    assert torch.autograd.gradcheck(ends, volume)


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


def ring(size=9, margin=2):
    image = torch.zeros(size, size, dtype=torch.float64)
    image[margin:-margin, margin:-margin] = 1
    image[size // 2, size // 2] = 0
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
    with pytest.raises(ValueError, match="connectivity: wanted one of 6, 26, got 8"):
        cubical_persistence(torch.rand(2, 2, 2), connectivity=8, axes=3)
    with pytest.raises(ValueError, match="axes: wanted one of 2, 3, got 4"):
        cubical_persistence(torch.rand(2, 2, 2), axes=4)
    with pytest.raises(ValueError, match=r"images: wanted the shape \(\*batch, d, h, w\)"):
        cubical_persistence(torch.rand(2, 2), axes=3)
    with pytest.raises(ValueError, match="essential: wanted one of 'drop', 'cap', got 'keep'"):
        cubical_persistence(torch.rand(2, 2), essential="keep")
