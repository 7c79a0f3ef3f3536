"""What every function of diagrams does with bars that are unsound, endless, of length zero or not there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from topo_utils.topology import (
    Diagram,
    betti_curve,
    bottleneck,
    landscape,
    persistence_entropy,
    persistence_image,
    silhouette,
    sliced_wasserstein,
    smooth_betti_curve,
    wasserstein,
)
from topo_utils.topology.persistence import check_diagram

NAN, INF = float("nan"), float("inf")
GRID = torch.linspace(0, 3, 13, dtype=torch.float64)


def diagram(*bars, dtype=torch.float64):
    points = torch.tensor(bars, dtype=dtype).reshape(-1, 2)
    return Diagram(points, torch.ones(len(points), dtype=torch.bool))


VECTORISATIONS = {
    "landscape": lambda d: landscape(d, GRID, 6),
    "image": lambda d: persistence_image(d, GRID, GRID, 0.2),
    "silhouette": lambda d: silhouette(d, GRID),
    "silhouette of equal weights": lambda d: silhouette(d, GRID, 0),
    "betti": lambda d: betti_curve(d, GRID),
    "smooth betti": lambda d: smooth_betti_curve(d, GRID, 0.1),
    "entropy": persistence_entropy,
}
DISTANCES = {
    "bottleneck": bottleneck,
    "wasserstein 1": lambda x, y: wasserstein(x, y, 1),
    "wasserstein 2": wasserstein,
    "sliced": sliced_wasserstein,
}
OF_ONE = (
    VECTORISATIONS
    | {f"{name}, x": lambda d, f=f: f(d, diagram((0, 1))) for name, f in DISTANCES.items()}
    | {f"{name}, y": lambda d, f=f: f(diagram((0, 1)), d) for name, f in DISTANCES.items()}
)
ENDLESS = ("landscape", "betti", "smooth betti", "bottleneck", "wasserstein 1", "wasserstein 2")  # that take endless bars
every = pytest.mark.parametrize("name", OF_ONE)


def argument(name):
    return name[-1] if name.endswith((", x", ", y")) else "diagram"


@every
@pytest.mark.parametrize(
    ("bars", "message"),
    [
        ([(0.0, 1.0), (0.0, NAN)], r"wanted numbers, got NaN at \(1, 1\)"),
        ([(NAN, 1.0)], r"wanted numbers, got NaN at \(0, 0\)"),
        ([(0.0, 1.0), (1.0, 0.5)], r"wanted birth <= death, got \(1, 0.5\) at \(1,\)"),
        ([(0.0, -INF)], r"wanted birth <= death, got \(0, -inf\) at \(0,\)"),
        ([(-INF, 0.0)], r"wanted finite births, got \(-inf, 0\) at \(0,\)"),
        ([(INF, INF)], r"wanted finite births, got \(inf, inf\) at \(0,\)"),
        ([(-INF, INF)], r"wanted finite births, got \(-inf, inf\) at \(0,\)"),
    ],
)
def test_unsound_bars_are_named(name, bars, message):
    with pytest.raises(ValueError, match=f"{argument(name)}: {message}"):
        OF_ONE[name](diagram(*bars))


@every
@pytest.mark.parametrize("padding", [(0.1, 0.5), (0.5, 0.5), (0.0, INF), (0.0, -1.0)])
def test_padding_that_is_not_zero_is_named(name, padding):
    unclean = Diagram(diagram((0, 1), padding).points, torch.tensor([True, False]))
    with pytest.raises(
        ValueError, match=rf"{argument(name)}: wanted birth = death = 0 where the mask is false.* at \(1,\)"
    ):
        OF_ONE[name](unclean)


@every
def test_what_is_no_diagram_is_named(name):
    points, mask = diagram((0, 1), (1, 2))
    for other, message in (
        (points, ": wanted a Diagram .* got Tensor"),
        ((points, mask), ": wanted a Diagram .* got tuple"),
        (Diagram(points.numpy(), mask), ".points: wanted a torch tensor, got ndarray"),
        (Diagram(points.long(), mask), ".points: wanted float32 or float64, got torch.int64"),
        (Diagram(points, mask.double()), ".mask: wanted bool, got torch.float64"),
        (Diagram(points, mask.numpy()), ".mask: wanted a torch tensor, got ndarray"),
    ):
        with pytest.raises(TypeError, match=f"{argument(name)}{message}"):
            OF_ONE[name](other)
    for other in (Diagram(points, mask[:1]), Diagram(points[:, :1], mask), Diagram(points[0], mask[0])):
        with pytest.raises(ValueError, match=rf"{argument(name)}: wanted points \(\*batch, p, 2\) and a mask"):
            OF_ONE[name](other)


@every
def test_bars_without_end_have_a_value_or_are_named(name):
    endless = diagram((0, INF), (0.1, 0.5))
    if name.split(",")[0] in ENDLESS:
        value = torch.as_tensor(OF_ONE[name](endless))
        assert not value.isnan().any()
        return
    with pytest.raises(
        ValueError, match=rf"{argument(name)}: wanted bars that end, got \(0, inf\) at \(0,\); .*'drop' or 'cap'"
    ):
        OF_ONE[name](endless)


@pytest.mark.parametrize("name", ["landscape", "betti", "smooth betti"])
def test_an_endless_bar_is_one_that_dies_far_beyond_the_grid(name):
    endless, long = diagram((0.3, INF), (0.1, 0.5)), diagram((0.3, 1e6), (0.1, 0.5))
    gradients = []
    for points, mask in (endless, long):
        points.requires_grad_()
        value = VECTORISATIONS[name](Diagram(points, mask))
        gradients.append(torch.autograd.grad(value.square().sum(), points)[0] if value.requires_grad else torch.zeros(()))
    torch.testing.assert_close(VECTORISATIONS[name](endless), VECTORISATIONS[name](long))
    torch.testing.assert_close(*gradients)
    assert gradients[0].isfinite().all()


finite_bars = st.lists(st.tuples(st.floats(0, 2), st.floats(0.01, 1)).map(lambda bar: (bar[0], sum(bar))), max_size=6)


@settings(deadline=None, max_examples=30)
@given(finite_bars, st.floats(0, 3))
@pytest.mark.parametrize("name", [name for name in OF_ONE if name != "smooth betti"])
def test_a_bar_of_length_zero_changes_nothing(name, bars, at):
    value, with_one = (torch.as_tensor(OF_ONE[name](diagram(*extra, *bars))) for extra in ((), [(at, at)]))
    torch.testing.assert_close(value, with_one, atol=1e-12, rtol=1e-9)


def test_a_bar_of_length_zero_is_smoothed_to_a_quarter():
    assert smooth_betti_curve(diagram((0.5, 0.5)), GRID, 0.1)[2] == 0.25  # at t = .5


@pytest.mark.parametrize("name", [name for name in OF_ONE if name != "betti" and "bottleneck" not in name])
@pytest.mark.parametrize("bars", [[(0.5, 0.5)], [(0.5, 0.5), (0.2, 1.3)], []])
def test_gradients_are_finite_where_a_bar_has_no_length(name, bars):
    points, mask = diagram(*bars)
    points.requires_grad_()
    (gradient,) = torch.autograd.grad(OF_ONE[name](Diagram(points, mask)).sum(), points)
    assert gradient.isfinite().all()


@every
def test_all_bars_masked_are_none(name):
    masked = Diagram(torch.zeros(4, 2, dtype=torch.float64), torch.zeros(4, dtype=torch.bool))
    assert torch.equal(torch.as_tensor(OF_ONE[name](masked)), torch.as_tensor(OF_ONE[name](diagram())))


@pytest.mark.parametrize("name", [*VECTORISATIONS] + [name for name in DISTANCES if name != "bottleneck"])
@pytest.mark.parametrize("bars", [0, 3])
def test_a_batch_of_none_gives_none(name, bars):
    none = Diagram(torch.zeros(0, bars, 2), torch.zeros(0, bars, dtype=torch.bool))
    value = VECTORISATIONS[name](none) if name in VECTORISATIONS else DISTANCES[name](none, none)
    assert value.shape[0] == 0
    assert value.dtype == torch.float32


@pytest.mark.parametrize("name", DISTANCES)
def test_of_two_dtypes_the_wider_counts(name):
    x, y = diagram((0.1, 0.7), (0.3, 0.5)), diagram((0.2, 0.9), dtype=torch.float32)
    wide = DISTANCES[name](x, Diagram(y.points.double(), y.mask))
    for value in (DISTANCES[name](x, y), DISTANCES[name](y, x)):
        assert float(value) == pytest.approx(float(wide), rel=1e-14)
        assert name == "bottleneck" or value.dtype == torch.float64
    narrow = Diagram(x.points.float(), x.mask)
    assert name == "bottleneck" or DISTANCES[name](narrow, y).dtype == torch.float32


@every
def test_bars_that_require_a_gradient_have_the_same_value(name):
    points, mask = diagram((0.1, 0.7), (0.3, 0.5))
    value = OF_ONE[name](Diagram(points.clone().requires_grad_(), mask))
    torch.testing.assert_close(torch.as_tensor(value).detach(), torch.as_tensor(OF_ONE[name](Diagram(points, mask))))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6), st.integers(1, 6), st.sampled_from([0.0, 0.5, 1.0, 3.0, 400.0]), st.floats(-200, 200))
def test_silhouettes_of_any_power_and_scale(seed, bars, power, exponent):
    """The scale of the bars cancels out of the weights, also where their powers are no numbers."""
    births, lengths = np.random.default_rng(seed).uniform(0.1, 1, (2, bars))
    shares = (lengths / lengths.max()) ** power / ((lengths / lengths.max()) ** power).sum()
    tents = np.minimum(GRID.numpy() - births[:, None], (births + lengths)[:, None] - GRID.numpy()).clip(0)
    scale = 10.0**exponent
    curve = silhouette(diagram(*zip(births * scale, (births + lengths) * scale, strict=True)), GRID * scale, power)
    np.testing.assert_allclose(curve.numpy() / scale, shares @ tents, rtol=1e-9, atol=1e-12)


def test_bars_of_negative_birth_are_sound():
    """Births and deaths of the negated image are negative."""
    below = diagram((-1, -0.5), (-0.7, 0.2), (-0.3, INF))
    check_diagram("diagram", below)
    shifted = Diagram(below.points + 1, below.mask)
    assert torch.equal(betti_curve(below, GRID - 1), betti_curve(shifted, GRID))
    assert bottleneck(below, shifted) == 1
