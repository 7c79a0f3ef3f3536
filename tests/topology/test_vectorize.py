from __future__ import annotations

import gudhi.representations
import numpy as np
import persim
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from persim.landscapes import PersLandscapeExact

from topo_utils.topology import (
    Diagram,
    betti_curve,
    landscape,
    landscape_norm,
    pairwise_distances,
    persistence_entropy,
    persistence_image,
    persistent_homology,
    silhouette,
    smooth_betti_curve,
)


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


def batch_of(cloud_count=4, points=20):
    return persistent_homology(pairwise_distances(torch.randn(cloud_count, points, 2, dtype=torch.float64)))


def single(diagrams, cloud):
    mask = diagrams.mask[cloud]
    return Diagram(diagrams.points[cloud][mask], mask[mask])


GRID = torch.linspace(0, 3, 30, dtype=torch.float64)
EDGES = torch.linspace(0, 2, 9, dtype=torch.float64)
VECTORISATIONS = {
    "landscape": lambda d: landscape(d, GRID, 5),
    "image": lambda d: persistence_image(d, EDGES, EDGES, 0.2),
    "silhouette": lambda d: silhouette(d, GRID, 2.0),
    "betti": lambda d: betti_curve(d, GRID),
    "smooth betti": lambda d: smooth_betti_curve(d, GRID, 0.1),
    "entropy": persistence_entropy,
}
every = pytest.mark.parametrize("vectorise", VECTORISATIONS.values(), ids=VECTORISATIONS)


@every
@pytest.mark.parametrize("dimension", [0, 1])
def test_a_batch_is_a_loop_and_padding_counts_for_nothing(vectorise, dimension):
    diagrams = batch_of()[dimension]
    for cloud in range(4):
        torch.testing.assert_close(vectorise(diagrams)[cloud], vectorise(single(diagrams, cloud)))


@every
def test_no_bars_give_zeros_and_no_nan(vectorise):
    points = torch.zeros(2, 3, 2, dtype=torch.float64, requires_grad=True)
    vector = vectorise(Diagram(points, torch.zeros(2, 3, dtype=torch.bool)))
    assert not vector.any()
    if vector.requires_grad:
        assert torch.autograd.grad(vector.sum(), points)[0].isfinite().all()
    assert not vectorise(Diagram(torch.zeros(2, 0, 2, dtype=torch.float64), torch.zeros(2, 0, dtype=torch.bool))).any()


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_dtype_is_kept(vectorise, dtype):
    diagram = diagram_of(0, 4)
    assert vectorise(Diagram(diagram.points.to(dtype), diagram.mask)).dtype == dtype


@pytest.mark.parametrize("name", [name for name in VECTORISATIONS if name != "betti"])
@pytest.mark.parametrize("born_at_zero", [False, True])
def test_gradcheck(name, born_at_zero):
    points, mask = diagram_of(3, 6)
    if born_at_zero:  # as H0: the births are a constant
        deaths = points[:, 1].clone().requires_grad_()
        argument, build = deaths, lambda d: Diagram(torch.stack([torch.zeros_like(d), d], 1), mask)
    else:
        argument, build = points.clone().requires_grad_(), lambda p: Diagram(p, mask)
    assert torch.autograd.gradcheck(lambda values: VECTORISATIONS[name](build(values)), argument)


def test_bars_that_are_born_together_need_one_sort():
    deaths = torch.rand(3, 9, dtype=torch.float64)
    nested = Diagram(torch.stack([torch.zeros_like(deaths), deaths], -1), torch.ones(3, 9, dtype=torch.bool))
    shifted = Diagram(nested.points + 1, nested.mask)
    torch.testing.assert_close(landscape(nested, GRID), landscape(shifted, GRID + 1))


def test_the_gradient_finds_its_bar_whatever_the_order():
    births, deaths = torch.zeros(4, dtype=torch.float64), torch.tensor([1.0, 3.0, 2.0, 2.5], dtype=torch.float64)
    points = torch.stack([births, deaths], 1).requires_grad_()
    mask = torch.ones(4, dtype=torch.bool)

    def norm(p):  # births at exactly 0 take the shortcut, births off 0 do not: both gradients are the same
        return landscape(Diagram(p, mask), GRID).square().sum()

    (at_zero,) = torch.autograd.grad(norm(points), points)
    (beside,) = torch.autograd.grad(norm(points + 1e-9), points)
    torch.testing.assert_close(at_zero, beside, atol=1e-6, rtol=0)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(0, 12), st.integers(1, 14))
def test_the_order_of_the_bars_changes_nothing(seed, bars, levels):
    diagram = diagram_of(seed, bars)
    shuffled = Diagram(diagram.points[torch.randperm(bars)], diagram.mask)
    assert torch.equal(landscape(diagram, GRID, levels), landscape(shuffled, GRID, levels))
    assert torch.equal(landscape(diagram, GRID, levels), landscape(diagram, GRID, 20)[:levels])


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 10))
def test_landscape_norm_is_persims_and_the_grid_tends_to_it(seed, bars):
    diagram = diagram_of(seed, bars)
    theirs = PersLandscapeExact(dgms=[diagram.points.numpy()], hom_deg=0)
    theirs.compute_landscape()
    assert landscape_norm(diagram) == pytest.approx(theirs.p_norm(2), rel=1e-9)
    grid = torch.linspace(0, 2.2, 20_001, dtype=torch.float64)
    assert torch.trapezoid(landscape(diagram, grid).square(), grid).sum().sqrt() == pytest.approx(
        landscape_norm(diagram), rel=1e-3
    )


def test_landscape_norm_of_a_difference():
    x, y = diagram_of(1, 5), diagram_of(2, 8)
    grid = torch.linspace(0, 2.2, 5001, dtype=torch.float64)
    difference = landscape(x, grid, 8) - landscape(y, grid, 8)
    expected = torch.trapezoid(difference.square(), grid).sum().sqrt()
    assert landscape_norm(x, y) == pytest.approx(float(expected), rel=1e-4)
    assert landscape_norm(x, x) == 0
    empty = Diagram(torch.zeros(0, 2), torch.zeros(0, dtype=torch.bool))
    assert landscape_norm(empty) == 0
    assert landscape_norm(x, empty) == landscape_norm(x)
    with pytest.raises(ValueError, match="single diagrams"):
        landscape_norm(batch_of()[1])


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.integers(1, 10), st.floats(0.05, 0.5))
def test_persistence_images_are_persims(seed, bars, sigma):
    diagram = diagram_of(seed, bars)
    imager = persim.PersistenceImager(
        birth_range=(0.0, 2.0), pers_range=(0.0, 2.0), pixel_size=0.25,
        weight="persistence", weight_params={"n": 1.0}, kernel_params={"sigma": [[sigma**2, 0.0], [0.0, sigma**2]]},
    )  # fmt: skip
    theirs = imager.transform(diagram.points.numpy(), skew=True)
    np.testing.assert_allclose(persistence_image(diagram, EDGES, EDGES, sigma), theirs, atol=1e-7)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.integers(1, 10), st.sampled_from([0.0, 1.0, 2.5]))
def test_silhouettes_are_gudhis(seed, bars, power):
    diagram = diagram_of(seed, bars)
    imager = gudhi.representations.Silhouette(
        weight=lambda bar: (bar[1] - bar[0]) ** power, resolution=30, sample_range=[0.0, 3.0], keep_endpoints=True
    )
    theirs = imager.fit_transform([diagram.points.numpy()])[0] / np.sqrt(2)
    np.testing.assert_allclose(silhouette(diagram, GRID, power), theirs, atol=1e-9)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.integers(1, 10))
def test_betti_curves_and_entropy_are_gudhis(seed, bars):
    diagram = diagram_of(seed, bars)
    curve = gudhi.representations.BettiCurve(predefined_grid=GRID.numpy()).fit_transform([diagram.points.numpy()])[0]
    np.testing.assert_array_equal(betti_curve(diagram, GRID), curve)
    entropy = gudhi.representations.Entropy(mode="scalar").fit_transform([diagram.points.numpy()])[0, 0]
    assert persistence_entropy(diagram).item() == pytest.approx(entropy, abs=1e-9)


def test_the_smooth_betti_curve_tends_to_the_step_function():
    diagram = diagram_of(5, 6)
    near = (GRID[:, None] - diagram.points.flatten()).abs().amin(1) < 0.02
    smooth = smooth_betti_curve(diagram, GRID, 1e-3)
    torch.testing.assert_close(smooth[~near], betti_curve(diagram, GRID)[~near], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("grid", "levels", "message"),
    [
        (torch.tensor([0.0]), None, "at least two increasing values"),
        (torch.tensor([1.0, 0.0]), None, "at least two increasing values, got 1 before 0"),
        (torch.zeros(2, 2), None, "at least two increasing values"),
        (torch.tensor([0.0, torch.inf]), None, "finite"),
        (torch.tensor([0.0, 1.0]), 0, "levels: wanted at least 1"),
    ],
)
def test_bad_grids_and_levels_are_named(grid, levels, message):
    with pytest.raises(ValueError, match=message):
        landscape(diagram_of(0, 3), grid, levels)


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan")])
def test_bad_widths_are_named(sigma):
    with pytest.raises(ValueError, match="sigma: wanted a positive number"):
        persistence_image(diagram_of(0, 3), EDGES, EDGES, sigma)
    with pytest.raises(ValueError, match="width: wanted a positive number"):
        smooth_betti_curve(diagram_of(0, 3), GRID, sigma)
    with pytest.raises(ValueError, match="power: wanted a finite number >= 0"):
        silhouette(diagram_of(0, 3), GRID, min(sigma, -1.0))


@pytest.mark.parametrize(
    "vectorize",
    [
        lambda d: landscape(d, torch.linspace(0, 1, 5)),
        lambda d: persistence_image(d, torch.linspace(0, 1, 5), torch.linspace(0, 1, 5), 0.1),
        lambda d: silhouette(d, torch.linspace(0, 1, 5)),
        lambda d: betti_curve(d, torch.linspace(0, 1, 5)),
        lambda d: smooth_betti_curve(d, torch.linspace(0, 1, 5), 0.1),
        persistence_entropy,
    ],
)
def test_what_is_no_diagram_is_named(vectorize):
    with pytest.raises(TypeError, match=r"diagram: wanted a Diagram .* got list"):
        vectorize([Diagram(torch.zeros(1, 2), torch.ones(1, dtype=torch.bool))])
    with pytest.raises(ValueError, match=r"diagram: wanted numbers, got NaN at \(0, 1\)"):
        vectorize(Diagram(torch.tensor([[0.0, torch.nan]]), torch.ones(1, dtype=torch.bool)))


def test_a_landscape_knows_when_its_diagram_was_changed():
    points = torch.tensor([[0.0, 1.0]], requires_grad=True)
    bars = points * 1
    curves = landscape(Diagram(bars, torch.ones(1, dtype=torch.bool)), torch.linspace(0, 1, 5))
    bars.detach().add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        curves.sum().backward()


def test_images_are_exact_under_autocast():
    diagram, edges = batch_of()[0], torch.linspace(0, 3, 20)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        image = persistence_image(diagram, edges, edges, 0.1)
    assert torch.equal(image, persistence_image(diagram, edges, edges, 0.1))
