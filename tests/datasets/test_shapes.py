from __future__ import annotations

import math

import matplotlib.pyplot as plt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from topo_utils.datasets import DataError, Dataset
from topo_utils.datasets.shapes import FIGURE_EIGHT, SOURCES, Spheres, SwissRoll, Torus
from topo_utils.seed import generator
from topo_utils.topology import pairwise_distances, persistent_homology, rips

BY_NAME = {source.name: source for source in SOURCES}
seeds = st.integers(0, 10**6)


@pytest.mark.parametrize("name", BY_NAME)
def test_every_split_is_a_noisy_sample(name):
    source = BY_NAME[name]
    for split, size in source.sizes.items():
        data = source.load(split)
        assert len(data) == size
        manifold = data.domain.manifold
        assert manifold.distance(data.properties["clean"]).max() < 1e-6
        noise = data.items - data.properties["clean"]
        assert noise.std().item() == pytest.approx(source.noise, rel=0.05)
        assert (manifold.distance(data.items) <= noise.norm(dim=1) + 1e-6).all()


@pytest.mark.parametrize("name", BY_NAME)
def test_splits_share_no_point_and_are_the_same_each_time(name):
    splits = [BY_NAME[name].load(split) for split in BY_NAME[name].sizes]
    points = [tuple(point) for data in splits for point in data.items.tolist()]
    assert len(set(points)) == len(points)
    assert BY_NAME[name].load("test").digest == splits[2].digest


@pytest.mark.parametrize(
    ("name", "count", "scale"),
    [("circle", 200, 0.5), ("figure-eight", 400, 0.5), ("torus", 700, 0.6), ("swiss-roll", 1200, 0.42)],
)
def test_persistent_homology_finds_the_betti_numbers(name, count, scale):
    manifold = BY_NAME[name].manifold
    cloud = manifold.sample(count, generator(0, "homology"))
    diagrams = persistent_homology(rips(pairwise_distances(cloud)), essential="cap")
    alive = [((d.points[:, 0] <= scale) & (d.points[:, 1] > scale) & d.mask).sum().item() for d in diagrams]
    assert tuple(alive) == manifold.betti


def test_the_small_spheres_are_components_of_their_own():
    """The large one's points are as far from each other as from the small spheres: no scale shows it as one component."""
    data = BY_NAME["spheres"].load("test")
    assert data.labels.bincount().tolist() == [100] * 10 + [1000]
    small = data.items[data.labels < 10]
    (components,) = persistent_homology(rips(pairwise_distances(small)), max_dimension=0)
    assert (components.points[:, 1] > 10 / data.unit).sum() == 9
    assert data.domain.manifold.betti == (11, 0)


def test_the_spheres_are_the_benchmarks():
    data = BY_NAME["spheres"].load("train")
    original = data.items * data.unit
    assert original.shape == (10_000, 101)
    radii = torch.stack(
        [(original[data.labels == k] - original[data.labels == k].mean(0)).norm(dim=1).mean() for k in range(11)]
    )
    torch.testing.assert_close(radii, torch.tensor([5.0] * 10 + [25.0]), rtol=0.03, atol=0)
    centres = torch.stack([original[data.labels == k].mean(0) for k in range(10)])
    assert centres.std().item() == pytest.approx(10 / math.sqrt(101), rel=0.1)
    assert original[data.labels < 10].norm(dim=1).max() < 25  # the large one holds them all


def test_samples_are_uniform():
    circle = BY_NAME["circle"].manifold.sample(20_000, generator(0, "uniform"))
    quadrants = (2 * (circle[:, 0] > 0) + (circle[:, 1] > 0)).bincount()
    assert ((quadrants / 5000 - 1).abs() < 0.05).all()
    torus = Torus(1, 0.5).sample(20_000, generator(0, "uniform"))
    outer = torch.hypot(torus[:, 0], torus[:, 1]) > 1  # has the area 2π²Rr + 4πr² of 4π²Rr
    assert outer.double().mean().item() == pytest.approx(0.5 + 0.5 / math.pi, abs=0.01)
    roll = SwissRoll().sample(20_000, generator(0, "uniform"))
    turn = torch.hypot(roll[:, 0], roll[:, 2]) * 4.5 * math.pi
    length = turn**2 / 2 + turn.log() / 2  # of the spiral, up to a constant and terms of 1/t²
    share = (length - length.min()) / (length.max() - length.min())
    torch.testing.assert_close(share.sort().values, torch.linspace(0, 1, 20_000), rtol=0, atol=0.02)


@settings(deadline=None, max_examples=30)
@given(seeds, st.floats(0, 0.99))
def test_inside_a_sphere_the_distance_is_the_way_inwards(seed, depth):
    for manifold in (FIGURE_EIGHT, BY_NAME["circle"].manifold):
        points = manifold.sample(20, generator(seed)).double()
        centres = manifold.centres[manifold.distances(points).argmin(1)]
        inner = points + depth * (centres - points)
        torch.testing.assert_close(
            manifold.distance(inner), torch.full((20,), depth, dtype=torch.float64), rtol=0, atol=1e-6
        )


@settings(deadline=None, max_examples=30)
@given(seeds, st.floats(-0.49, 0.49))
def test_along_its_normal_a_point_leaves_the_torus(seed, step):
    points = Torus(1, 0.5).sample(20, generator(seed)).double()
    to_axis = torch.cat([points[:, :2], torch.zeros(20, 1)], 1)
    normal = (points - to_axis / to_axis.norm(dim=1, keepdim=True)) / 0.5
    distance = Torus(1, 0.5).distance(points + step * normal)
    torch.testing.assert_close(distance, torch.full((20,), abs(step), dtype=torch.float64), rtol=0, atol=1e-6)


@settings(deadline=None, max_examples=20)
@given(seeds, st.floats(-0.2, 0.2))
def test_along_its_normal_a_point_leaves_the_swiss_roll(seed, step):
    roll = SwissRoll()
    t = roll.first + (roll.last - roll.first) * torch.rand(20, generator=generator(seed), dtype=torch.float64)
    y = 1.5 * torch.rand(20, generator=generator(seed), dtype=torch.float64) - 0.75
    tangent = torch.stack([t.cos() - t * t.sin(), t.sin() + t * t.cos()], 1) / (1 + t**2).sqrt()[:, None]
    x, z = t * t.cos() / roll.last - step * tangent[:, 1], t * t.sin() / roll.last + step * tangent[:, 0]
    distance = roll.distance(torch.stack([x, y, z], 1))
    torch.testing.assert_close(distance, torch.full((20,), abs(step), dtype=torch.float64), rtol=0, atol=1e-9)


def test_the_distance_to_the_swiss_roll_is_that_to_its_nearest_point():
    roll, points = SwissRoll(), 4 * torch.rand(60, 3, dtype=torch.float64) - 2  # most of them off its edges
    points[0] = 0
    t = torch.linspace(roll.first, roll.last, 50_001, dtype=torch.float64)
    dense = torch.stack([t * t.cos(), t * t.sin()], 1) / roll.last
    beyond = (points[:, 1].abs() - 0.75).clamp(min=0)
    nearest = torch.hypot(torch.cdist(points[:, [0, 2]], dense).amin(1), beyond)
    torch.testing.assert_close(roll.distance(points), nearest, rtol=0, atol=1e-6)


def test_distances_keep_the_points_type_and_name_a_wrong_space():
    torus = Torus(1, 0.5)
    assert torus.distance(torch.zeros(2, 3)).tolist() == [0.5, 0.5]
    assert torus.distance(torch.zeros(2, 3)).dtype == torch.float32
    with pytest.raises(ValueError, match=r"points: wanted the shape \(n, 3\), got \(2, 4\)"):
        torus.distance(torch.zeros(2, 4))


def test_a_dataset_checks_the_space_of_its_points():
    domain = BY_NAME["torus"].domain
    with pytest.raises(DataError, match=r"wanted points \(n, 3\), got \(2, 2\)"):
        Dataset("made", "train", domain, torch.zeros(2, 2), torch.zeros(2, dtype=torch.int64))


def test_a_point_has_no_diagram_of_its_own():
    data = BY_NAME["torus"].load("test")
    with pytest.raises(ValueError, match="only clouds of items"):
        data.domain.diagrams(data.items)


def test_spheres_of_any_dimension_are_sampled_by_their_weights():
    two = Spheres(torch.tensor([[0.0, 0, 0], [9, 0, 0]]), torch.tensor([1.0, 2]), [1, 3], betti=(2, 0))
    part = two.distances(two.sample(400, generator(0)).double()).argmin(1)
    assert part.bincount().tolist() == [100, 300]


@pytest.mark.parametrize("name", BY_NAME)
def test_a_point_is_drawn_in_its_manifold(name):
    data = BY_NAME[name].load("test")
    _, axes = plt.subplots()
    data.domain.draw(axes, data.items[0].requires_grad_())
    assert [len(drawn.get_offsets()) for drawn in axes.collections] == [1000, 1]
    assert not len(axes.get_xticks())
    plt.close()
