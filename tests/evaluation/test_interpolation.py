"""The Interpolation Quality Index on models whose paths are known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from topo_utils import datasets
from topo_utils.datasets import from_tensors
from topo_utils.evaluation import interpolation_quality, intervals
from topo_utils.evaluation.interpolation import _pairs
from topo_utils.metrics import metric
from topo_utils.models.features import Identity
from topo_utils.models.vae import Posterior
from topo_utils.seed import generator
from topo_utils.topology import TopologicalLoss


class Shifted(nn.Module):
    """Codes are the points; what is decoded lies ``by`` beside them in the last coordinate."""

    def __init__(self, by=0.0):
        super().__init__()
        self.by = by

    def encode(self, x):
        return Posterior(x, torch.zeros_like(x))

    def decode(self, z):
        return torch.cat([z[:, :-1], z[:, -1:] + self.by], 1)


class Chart(nn.Module):
    """The unit circle in the plane, coded by its angle."""

    def encode(self, x):
        angle = torch.atan2(x[:, 1], x[:, 0])[:, None]
        return Posterior(angle, torch.zeros_like(angle))

    def decode(self, z):
        return torch.cat([z.cos(), z.sin()], 1)


class Polar(nn.Module):
    """Points of the plane, coded by radius and angle: straight lines of codes are spirals, geodesics are straight."""

    def encode(self, x):
        code = torch.stack([x.norm(dim=1), torch.atan2(x[:, 1], x[:, 0])], 1)
        return Posterior(code, torch.zeros_like(code))

    def decode(self, z):
        return z[:, :1] * torch.stack([z[:, 1].cos(), z[:, 1].sin()], 1)


class Features(Identity):
    def features(self, x):
        return x.flatten(1)


class Coordinate:
    """A judge whose feature is the first coordinate."""

    def features(self, x):
        return x[:, :1]


@pytest.fixture
def circle():
    return datasets.load("circle", "train", limit=300), datasets.load("circle", "test").subset(200)


def test_lines_leave_a_circle_and_its_chart_does_not(circle):
    train, data = circle
    flat = interpolation_quality(Shifted(), data, train, Features())
    round_ = interpolation_quality(Chart(), data, train, Features())
    assert all(metric(name) for name in {**flat, **round_})
    assert flat["path_linear_off_manifold"] > 0.2
    assert round_["path_linear_off_manifold"] < 1e-3
    assert flat["path_length_ratio"] == pytest.approx(1, abs=1e-3)
    assert flat["path_linear_off_manifold"] == pytest.approx(flat["path_geodesic_off_manifold"], abs=1e-2)
    assert (
        round_["path_topological_floor"] < 0.2 * round_["path_linear_topological"] < 0.14 * flat["path_linear_topological"]
    )
    assert flat["path_topological_floor"] == round_["path_topological_floor"]


def test_the_index_is_relative_to_the_models_own_error(circle):
    """A shift by .3 is made again in the second cycle: the same error on paths and on items."""
    train, data = circle
    metrics = interpolation_quality(Shifted(0.3), data, train, Features())
    assert metrics["iqi_linear"] == pytest.approx(1, rel=1e-4)
    assert metrics["iqi_geodesic"] == pytest.approx(1, rel=1e-4)


class Halved(Shifted):
    """Codes are half of the points, which are decoded as they are: a cycle loses half of a point."""

    def encode(self, x):
        return Posterior(x / 2, torch.zeros_like(x))


def test_its_interval_is_over_the_paths(circle):
    train, data = circle
    metrics = interpolation_quality(Halved(), data, train, Features(), pairs=30, seed=2)
    starts, ends = (data.items[each] for each in _pairs(200, 30, 2))
    t = torch.arange(1, 8)[:, None, None] / 8
    lost = (((1 - t) * starts + t * ends) / 4).square().sum(2).mean(0)
    own = (torch.cat([starts, ends]).unique(dim=0) / 2).square().sum(1).mean()
    assert metrics["iqi_linear"] == pytest.approx((lost / own).mean().item(), rel=1e-3)
    wanted = intervals.of_mean("iqi_linear", lost / own, 2)
    assert {end: metrics[end] for end in wanted} == pytest.approx(wanted, rel=1e-3)


def test_the_nearest_item_is_a_training_item_in_the_judges_features():
    stream = torch.Generator().manual_seed(0)
    train = from_tensors(torch.stack([torch.arange(3.0), torch.randn(3, generator=stream)], 1), "points")
    data = from_tensors(torch.tensor([[0.2, 0.0], [1.4, 0], [0.9, 5], [2.3, 7]]), "points", split="test")
    metrics = interpolation_quality(Shifted(), data, train, Features(), Coordinate(), pairs=2, seed=1)
    wanted = []  # seven inner points of each line; test items are .2, .4, .1 and .3 from the nearest
    for start, end in zip(*_pairs(4, 2, 1), strict=True):
        t = torch.arange(1, 8)[:, None] / 8
        x = ((1 - t) * data.items[start] + t * data.items[end])[:, :1]
        wanted.append(torch.cdist(x, torch.arange(3.0)[:, None]).amin(1))
    assert metrics["path_linear_nearest"] == pytest.approx(torch.cat(wanted).mean().item() / 0.25, rel=1e-4)


def test_geodesics_cut_corners():
    stream = torch.Generator().manual_seed(2)
    angles = 2.6 * torch.rand(90, generator=stream) - 1.3
    points = (1 + torch.rand(90, 1, generator=stream)) * torch.stack([angles.cos(), angles.sin()], 1)
    train, data = from_tensors(points[:50], "points"), from_tensors(points[50:], "points", split="test")
    metrics = interpolation_quality(Polar(), data, train, Features(), pairs=20)
    starts, ends = (data.items[each] for each in _pairs(40, 20, 0))
    chords = (starts - ends).norm(dim=1)
    codes = [Polar().encode(each).mean for each in (starts, ends)]
    t = torch.linspace(0, 1, 2001)[:, None, None]
    spirals = Polar().decode((codes[0] * (1 - t) + codes[1] * t).flatten(0, 1)).view(2001, 20, 2)
    wanted = (chords / spirals.diff(dim=0).norm(dim=2).sum(0)).mean().item()
    assert metrics["path_length_ratio"] == pytest.approx(wanted, abs=4e-3)
    assert wanted < 0.97
    assert metrics["path_geodesic_topological"] != metrics["path_linear_topological"]


def test_the_floor_is_the_distance_of_other_clouds_from_the_mean_landscape(circle):
    train, data = circle
    stream = generator(3, "interpolation", "clouds")
    chosen = torch.stack([torch.randperm(200, generator=stream)[:30] for _ in range(40)])
    loss = TopologicalLoss(scale_free=True).fit(data.items[chosen[:20]])
    first, second = loss.vectors(data.items[chosen[:20]]), loss.vectors(data.items[chosen[20:]])
    wanted = 0.0
    for h, (known, other) in enumerate(zip(first, second, strict=True)):
        levels = max(known.shape[1], other.shape[1])
        known, other = (torch.nn.functional.pad(v, (0, 0, 0, levels - v.shape[1])) for v in (known, other))
        squares = (other - known.mean(0)).square().sum((1, 2)).mean()
        wanted += float(squares * (loss.grids[h][1] - loss.grids[h][0]))
    found = interpolation_quality(Shifted(), data, train, Features(), seed=3, pairs=30)
    assert found["path_topological_floor"] == pytest.approx(wanted, rel=1e-2)


def test_one_seed_one_result(circle):
    train, data = circle
    one, same, other = (interpolation_quality(Shifted(), data, train, Features(), seed=s) for s in (0, 0, 1))
    assert one == same
    assert one != other


def test_bad_arguments_are_named(circle):
    train, data = circle
    with pytest.raises(ValueError, match="data: wanted other items than those of train"):
        interpolation_quality(Shifted(), train, train, Features(), Coordinate())
    with pytest.raises(ValueError, match="pairs: wanted"):
        interpolation_quality(Shifted(), data, train, Features(), pairs=1)
    with pytest.raises(ValueError, match="data: wanted"):
        interpolation_quality(Shifted(), data.subset(3), train, Features())
    with pytest.raises(ValueError, match="train: wanted items as those of data"):
        interpolation_quality(Shifted(), data, datasets.load("torus", "train"), Features())
