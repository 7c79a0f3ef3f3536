"""Geodesics of surfaces that are known, and what every curve has to satisfy."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from torch import nn

from topo_utils.evaluation.geodesics import Curves, at_equal_lengths, geodesics, lengths, straight


def sphere(z):
    """Latitude and longitude to the unit sphere."""
    latitude, longitude = z.unbind(1)
    return torch.stack([latitude.cos() * longitude.cos(), latitude.cos() * longitude.sin(), latitude.sin()], 1)


def cylinder(z):
    return torch.stack([z[:, 0].cos(), z[:, 0].sin(), z[:, 1]], 1)


def paraboloid(z):
    return torch.cat([z, z.square().sum(1, keepdim=True)], 1)


START = torch.tensor([[0.9, 0.0], [0.6, -1.0], [1.2, 0.3]])
END = torch.tensor([[0.9, 2.0], [0.4, 1.0], [0.7, 2.3]])


def test_on_a_sphere_they_are_great_circles():
    found = geodesics(sphere, START, END, segments=24, iterations=400)
    wanted = (sphere(START) * sphere(END)).sum(1).acos()
    torch.testing.assert_close(lengths(sphere, found, 400), wanted, rtol=2e-3, atol=0)
    assert (lengths(sphere, straight(START, END), 400) > 1.02 * wanted).all()
    normal = torch.linalg.cross(sphere(START), sphere(END))
    inside = sphere(found.everywhere(50).flatten(0, 1)).view(3, 51, 3)
    assert (inside @ (normal / normal.norm(dim=1, keepdim=True))[..., None]).abs().max() < 0.03


def test_few_steps_already_come_near():
    found = geodesics(sphere, START, END)
    wanted = (sphere(START) * sphere(END)).sum(1).acos()
    torch.testing.assert_close(lengths(sphere, found, 400), wanted, rtol=0.02, atol=0)


@pytest.mark.parametrize("decode", [lambda z: 3 * z @ torch.tensor([[1.0, 2.0, 0.0], [0.5, 0.0, 1.0]]), cylinder])
def test_where_lines_are_shortest_they_stay(decode):
    found, line = geodesics(decode, START, END), straight(START, END)
    torch.testing.assert_close(found.everywhere(10), line.everywhere(10), atol=1e-2, rtol=0)
    torch.testing.assert_close(lengths(decode, found), lengths(decode, line), rtol=1e-4, atol=0)


@given(st.integers(0, 10_000), st.integers(2, 6), st.sampled_from([1, 20, 60]))
def test_no_curve_is_longer_than_its_line_and_both_ends_are_fixed(seed, dimension, iterations):
    stream = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    decode = nn.Sequential(nn.Linear(dimension, 16), nn.Tanh(), nn.Linear(16, 9)).requires_grad_(False)
    decode[0].weight.mul_(4)
    start, end = torch.randn(2, 5, dimension, generator=stream)
    found = geodesics(decode, start, end, iterations=iterations)
    assert (lengths(decode, found) <= lengths(decode, straight(start, end)) * (1 + 1e-6)).all()
    torch.testing.assert_close(found.everywhere(7)[:, [0, -1]], torch.stack([start, end], 1))


def test_the_best_is_kept_and_not_the_last():
    """More iterations never make the coarse energy worse."""

    def energy(curves):
        items = sphere(curves.everywhere(12).flatten(0, 1)).view(3, 13, 3)
        return 12 * items.diff(dim=1).square().sum((1, 2))

    found = [energy(geodesics(sphere, START, END, iterations=n)) for n in (0, 5, 15, 40)]
    assert all((later <= earlier * (1 + 1e-6)).all() for earlier, later in pairwise(found))
    assert (found[-1] < 0.99 * found[0]).all()


def test_lines_have_constant_speed_and_their_length_is_that_of_the_integral():
    line = straight(START, END)
    t = torch.linspace(0, 1, 6)[:, None]
    torch.testing.assert_close(line.everywhere(5), START[:, None] * (1 - t) + END[:, None] * t)
    a, b = START[1].tolist(), END[1].tolist()

    def speed(s):
        z = [p + s * (q - p) for p, q in zip(a, b, strict=True)]
        v = [q - p for p, q in zip(a, b, strict=True)]
        return math.sqrt(v[0] ** 2 + v[1] ** 2 + (2 * (z[0] * v[0] + z[1] * v[1])) ** 2)

    assert lengths(paraboloid, line, 2000)[1].item() == pytest.approx(quad(speed, 0, 1)[0], rel=1e-4)


def test_equal_lengths_are_those_of_the_data():
    def cubes(z):
        return z**3

    codes = at_equal_lengths(cubes, straight(torch.zeros(2, 1), torch.tensor([[1.0], [2.0]])), 5, segments=2000)
    wanted = torch.tensor([0, 0.25, 0.5, 0.75, 1]) ** (1 / 3) * torch.tensor([[1.0], [2.0]])
    torch.testing.assert_close(codes[..., 0], wanted, atol=2e-3, rtol=0)


def test_a_curve_without_length_is_divided_in_t():
    line = straight(torch.zeros(1, 2), torch.ones(1, 2))
    codes = at_equal_lengths(lambda z: torch.zeros(len(z), 3), line, 3)
    torch.testing.assert_close(codes[0], torch.tensor([[0.0, 0], [0.5, 0.5], [1, 1]]), atol=1e-4, rtol=0)
    still = geodesics(lambda z: 0 * z, torch.zeros(1, 2), torch.ones(1, 2))
    torch.testing.assert_close(still.controls, line.controls)


def test_each_curve_has_its_own_parameters():
    line = straight(START[:2], END[:2])
    at = line.at(torch.tensor([[0.0, 0.5], [0.25, 1.0]]))
    torch.testing.assert_close(at[0, 1], (START[0] + END[0]) / 2)
    torch.testing.assert_close(at[1, 0], 0.75 * START[1] + 0.25 * END[1])


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="start and end: wanted the same shape"):
        geodesics(sphere, START, END[:2])
    with pytest.raises(ValueError, match="end: wanted finite"):
        geodesics(sphere, START, END * torch.nan)
    for change in ({"segments": 1}, {"controls": 3}, {"iterations": -1}):
        with pytest.raises(ValueError, match=next(iter(change))):
            geodesics(sphere, START, END, **change)
    with pytest.raises(ValueError, match="steps"):
        at_equal_lengths(sphere, Curves(torch.zeros(1, 4, 2)), 1)
