"""Fréchet and bottleneck distances of two sets of features, and their floors."""

from __future__ import annotations

import math
from itertools import combinations

import gudhi.hera
import numpy as np
import persim
import pytest
import torch
from ripser import ripser
from scipy.linalg import sqrtm
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from topo_utils import evaluation
from topo_utils.datasets import Dataset
from topo_utils.datasets.shapes import CIRCLE, Points
from topo_utils.evaluation import topology
from topo_utils.models.features import Identity
from topo_utils.topology import Diagram

# --- Fréchet


def test_frechet_distance_is_the_formula():
    real, generated = torch.randn(300, 4), 1.5 * torch.randn(200, 4) + 1
    x, y = real.double().numpy(), generated.double().numpy()
    root = sqrtm(np.cov(x.T) @ np.cov(y.T)).real
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(np.cov(x.T) + np.cov(y.T) - 2 * root)
    assert evaluation.frechet_distance(real, generated) == pytest.approx(expected, rel=1e-9)
    assert evaluation.frechet_distance(generated, real) == pytest.approx(expected, rel=1e-9)


class Given(nn.Module):
    num_features = 12

    def forward(self, features):
        return features


@pytest.mark.parametrize("count", [200, 7])  # more features than dimensions, and fewer
def test_frechet_distance_is_that_of_torchmetrics(count):
    real, generated = torch.randn(count, 12) @ torch.randn(12, 12), torch.randn(count + 1, 12) + 0.3
    oracle = FrechetInceptionDistance(feature=Given()).set_dtype(torch.float64)
    oracle.update(real.double(), real=True)
    oracle.update(generated.double(), real=False)
    assert evaluation.frechet_distance(real, generated) == pytest.approx(oracle.compute().item(), rel=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 1, 100, 1e4])
@pytest.mark.parametrize("count", [200, 5])
def test_a_set_is_at_no_distance_from_itself_and_none_is_negative(scale, count):
    features = scale * (torch.randn(count, 8) + 3)
    for other in (features, features.flip(0), features + scale * 1e-6):
        assert 0 <= evaluation.frechet_distance(features, other) <= 1e-9 * scale**2


def test_frechet_distance_has_a_bias_that_falls_with_n():
    stream = torch.Generator().manual_seed(0)
    few, many = (
        evaluation.frechet_distance(*torch.randn(2, n, 10, generator=stream)) for n in (50, 2000)
    )  # of one distribution
    assert few > 10 * many > 0


BAD = [
    ({"generated": torch.randn(5, 2)}, ValueError, r"generated: wanted at least 2 rows of 3 features, got .*\(5, 2\)"),
    ({"real": torch.randn(1, 3)}, ValueError, r"real: wanted at least 2 rows of 3 features, got .*\(1, 3\)"),
    ({"real": torch.randn(9)}, ValueError, "real: wanted at least 2 rows"),
    ({"generated": torch.randn(9, 3, 1)}, ValueError, "generated: wanted at least 2 rows"),
    ({"real": torch.randn(9, 0), "generated": torch.randn(9, 0)}, ValueError, "real: wanted at least 2 rows of some"),
    ({"real": torch.randn(9, 3).index_fill(0, torch.tensor([2]), torch.nan)}, ValueError, "real: wanted finite values"),
    ({"generated": torch.full((9, 3), torch.inf)}, ValueError, "generated: wanted finite values, got inf"),
    ({"real": torch.randn(9, 3, dtype=torch.complex64)}, TypeError, "real: wanted float32 or float64, got torch.complex64"),
    ({"generated": torch.ones(9, 3, dtype=torch.int64)}, TypeError, "generated: wanted float32 or float64"),
    ({"generated": np.ones((9, 3))}, TypeError, "generated: wanted a torch tensor, got ndarray"),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD)
def test_bad_features_are_named(change, error, message):
    features = {"real": torch.randn(9, 3), "generated": torch.randn(9, 3)} | change
    with pytest.raises(error, match=message):
        evaluation.frechet_distance(**features)
    with pytest.raises(error, match=message):
        evaluation.diagram_distances(**features, cloud_size=2)


def test_features_whose_squares_overflow_are_refused():
    with pytest.raises(ValueError, match="wanted features whose squares are finite"):
        evaluation.frechet_distance(1e200 * torch.randn(9, 3).double(), torch.randn(9, 3).double())


class Judge(nn.Module):
    """Its features are the items."""

    def features(self, x):
        return x

    def forward(self, x):
        return x


def points(items):
    items = torch.as_tensor(items, dtype=torch.float32)
    return Dataset("tiny", "test", Points(CIRCLE), items, torch.zeros(len(items), dtype=torch.int64))


def judged(real, samples, seed=0):
    data = points(real)
    found = evaluation.evaluate_samples(
        torch.as_tensor(samples, dtype=torch.float32), data, data, Identity(), Judge(), seed
    )
    return [found[f"frechet_classifier{which}"] for which in ("", "_floor", "_n")]


REAL = torch.tensor([[0.0, 0], [1, 2], [10, 3], [40, 7], [4, 5], [15, 1]])


def test_the_distance_and_its_floor_are_of_one_half_of_the_data():
    samples = torch.tensor([[-5.0, 1], [7, 2], [1, 9]])
    found = [judged(REAL, samples, seed) for seed in range(12)]
    halves = [REAL[list(rows)] for rows in combinations(range(6), 3)]  # the n-th and the n-th last make a whole
    possible = [
        (evaluation.frechet_distance(half, samples), evaluation.frechet_distance(half, other))
        for half, other in zip(halves, reversed(halves), strict=True)
    ]
    for distance, floor, n in found:
        assert any((distance, floor) == pytest.approx(pair) for pair in possible)
        assert n == 3
    assert len({distance for distance, _, _ in found}) > 2  # another seed, other halves


def test_all_sides_have_the_same_number_of_items():
    real, samples = torch.randn(101, 2), torch.randn(300, 2)
    assert judged(real, samples)[2] == 50  # half of the data
    assert judged(real, samples[:20])[2] == 20  # as many as there are samples
    mean = samples[:20].mean(0, keepdim=True)
    assert judged(real, samples[:20]) == judged(real, samples[:20])
    constant = judged(real, mean.expand(20, 2))
    assert constant[1] == judged(real, samples[:20])[1]  # the floor is of the data alone
    assert judged(real, samples)[1] == judged(real, samples[:60])[1]


def test_samples_in_order_are_mixed_before_some_are_taken():
    """As of a model that makes one class after the other."""
    stream = torch.Generator().manual_seed(0)
    classes = torch.cat([torch.randn(100, 2, generator=stream) + shift for shift in (0, 10)])
    distance, floor, n = judged(classes, torch.cat([classes[::2], classes[1::2]]).sort(0).values)
    assert n == 100
    assert distance < 5  # the first hundred alone are at 25 and more
    assert floor < 5


# --- bottleneck


def distances(x, y):
    """Between the diagrams of two clouds, by ripser, persim and gudhi: the keys' order."""
    diagrams = [[bars[np.isfinite(bars).all(1)] for bars in ripser(cloud.numpy())["dgms"]] for cloud in (x, y)]
    pairs = list(zip(*diagrams, strict=True))
    orders = [[gudhi.hera.wasserstein_distance(*pair, order=q, internal_p=2.0) for pair in pairs] for q in (1, 2)]
    return [persim.bottleneck(*pair) for pair in pairs], *orders


NAMES = ("bottleneck", "wasserstein1", "wasserstein2")
KEYS = tuple(f"{name}_h{h}{end}" for end in ("", "_floor") for name in NAMES for h in (0, 1))
FLOORS = KEYS[6:]


def ring(count, radius, centre=0.0):
    angle = 2 * math.pi * torch.arange(count) / count
    return radius * torch.stack([angle.cos(), angle.sin()], 1) + centre


POOL = ring(10, 1.0) * torch.tensor([1.0, 1.3]) + 0.05 * torch.tensor([[0.0, 1, 4, 2, 8, 5, 7, 1, 4, 2]]).T
PENTAGON = ring(5, 0.25)


def possible_draws():
    """What a draw of two clouds of five from the pool can give."""
    for rows in combinations(range(10), 5):
        first, second = POOL[list(rows)], POOL[[row for row in range(10) if row not in rows]]
        yield [value for other in (PENTAGON, second) for values in distances(first, other) for value in values]


def test_a_draw_compares_a_real_cloud_with_a_generated_one_and_with_the_rest():
    """The mean of many draws is that of all possible ones, which an oracle lists; so is the standard error."""
    possible = torch.tensor(list(possible_draws()), dtype=torch.float64)
    draws = 400
    found = evaluation.diagram_distances(POOL, PENTAGON, 5, draws, seed=1)
    for name, mean, spread in zip(KEYS, possible.mean(0), possible.std(0, correction=0), strict=True):
        error = spread.item() / math.sqrt(draws)
        assert spread > 0.01
        assert found[name] == pytest.approx(mean.item(), abs=4 * error)
        assert found[f"{name}_standard_error"] == pytest.approx(error, rel=0.15)
    assert found["bottleneck_n"] == 5
    assert found.keys() == {*KEYS, *(f"{name}_standard_error" for name in KEYS), "bottleneck_n"}


def test_equal_features_are_at_no_distance():
    same = torch.tensor([[0.0, 0], [0, 1]]).repeat_interleave(8, 0)[:, :1].expand(16, 2)
    found = evaluation.diagram_distances(same, same, 4, 3)
    assert all(value == 0 for name, value in found.items() if name != "bottleneck_n")


def test_diagram_distances_of_equal_and_of_different_clouds():
    cloud = torch.randn(300, 2)
    same = evaluation.diagram_distances(cloud, torch.randn(300, 2), 40, 10)
    far = evaluation.diagram_distances(cloud, 5 * torch.randn(300, 2), 40, 10)
    assert same["bottleneck_h0"] < 2 * same["bottleneck_h0_floor"]
    assert far["bottleneck_h0"] > 2 * same["bottleneck_h0"]


def test_all_models_are_measured_by_the_same_real_clouds():
    real = torch.randn(60, 2)
    few, many, other = (torch.zeros(20, 2), torch.zeros(333, 2), torch.randn(90, 2))  # a cloud of zeros has no bar
    found = [evaluation.diagram_distances(real, generated, 20, 4) for generated in (few, many, other)]
    assert found[0] == found[1]
    for name in FLOORS:
        assert found[0][name] == found[2][name]
    assert found[0] != evaluation.diagram_distances(real, few, 20, 4, seed=1)


def test_real_and_generated_clouds_are_drawn_from_separate_streams():
    """With one stream, a sampler that returns the data would be compared with itself."""
    real = torch.randn(60, 2)
    found = evaluation.diagram_distances(real, real, 20, 4)
    assert found["bottleneck_h0"] > 0.2 * found["bottleneck_h0_floor"]


def test_a_hundred_draws_of_a_perfect_sampler_agree_from_seed_to_seed():
    data = torch.randn(400, 3)
    means = [evaluation.diagram_distances(data[:200], data[200:], 24, seed=seed) for seed in range(3)]
    for name in KEYS:
        spread = torch.tensor([each[name] for each in means]).std().item()
        assert spread < 3 * means[0][f"{name}_standard_error"]
        assert means[0][f"{name}_standard_error"] < 0.1 * means[0][name]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"draws": 0}, ValueError, "draws: wanted at least 2, got 0"),
        ({"draws": 1}, ValueError, "draws: wanted at least 2, got 1"),
        ({"draws": 2.5}, TypeError, "draws: wanted a whole number, got 2.5"),
        ({"cloud_size": 1}, ValueError, "cloud_size: wanted at least 2, got 1"),
        (
            {"cloud_size": 5},
            ValueError,
            "cloud_size: wanted at most half the 9 real and all the 9 generated features, got 5",
        ),
        ({"generated": torch.randn(3, 3)}, ValueError, "cloud_size: wanted .* all the 3 generated features, got 4"),
    ],
)
def test_bad_draws_are_named(change, error, message):
    arguments = {"real": torch.randn(9, 3), "generated": torch.randn(9, 3), "cloud_size": 4} | change
    with pytest.raises(error, match=message):
        evaluation.diagram_distances(**arguments)


def test_all_generated_items_are_drawn_from():
    real, first = torch.randn(60, 2), torch.randn(20, 2)
    found = [
        evaluation.diagram_distances(real, torch.cat([first, scale * torch.randn(40, 2)]), 20, 4) for scale in (0.1, 9.0)
    ]
    assert found[0]["bottleneck_h0"] < 0.5 * found[1]["bottleneck_h0"]


# --- landscapes, the energy form


ENDS = ("", "_standard_error")


def test_the_energy_form_is_that_of_all_pairs():
    x, y = torch.randn(5, 7).double(), torch.randn(4, 7).double() + 0.3

    def mean(a, b, same):
        pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if not (same and i == j)]
        return sum(float((a[i] - b[j]).square().sum()) for i, j in pairs) / len(pairs)

    wanted = 2 * mean(x, y, False) - mean(x, x, True) - mean(y, y, True)
    assert topology._energy(x, y) == pytest.approx(wanted)


def test_curves_are_scaled_to_an_integral():
    """One tent of height 1/2 over [0, 1]: its squared norm is 2 ∫ t² dt over [0, 1/2] = 1/12; beside it a longer one."""
    tent, other = (Diagram(torch.tensor([[[0.0, end]]]), torch.ones(1, 1, dtype=torch.bool)) for end in (1.0, 2.0))
    first, second = topology._curves(tent, other)
    assert first.square().sum().item() == pytest.approx(1 / 12, rel=1e-3)
    assert second.square().sum().item() == pytest.approx(8 / 12, rel=1e-3)


def test_samples_of_little_variety_do_not_come_below_the_data():
    """Clouds of the data around two centres; samples all around the mean of what such clouds look like."""
    stream = torch.Generator().manual_seed(0)
    real = torch.randn(400, 2, generator=stream)
    same, narrow = torch.randn(200, 2, generator=stream), 0.8 * torch.randn(200, 2, generator=stream)
    at, off = (evaluation.landscape_energy(real, each, 40) for each in (same, narrow))
    for h in (0, 1):
        name = f"landscape_energy_h{h}"
        assert at[f"{name}_floor"] == off[f"{name}_floor"]  # the real clouds are the same for all
        assert abs(at[name]) < 4 * at[f"{name}_floor"] + 4 * at[f"{name}_standard_error"]
    assert off["landscape_energy_h0"] > 3 * off["landscape_energy_h0_floor"]
    assert at.keys() == {f"landscape_energy_h{h}{end}{error}" for h in (0, 1) for end in ("", "_floor") for error in ENDS}


@pytest.mark.parametrize("distances", [evaluation.diagram_distances, evaluation.landscape_energy])
def test_the_floors_can_be_left_out(distances):
    real, generated = torch.randn(80, 2), torch.randn(80, 2) + 1
    whole, part = (distances(real, generated, 20, seed=2, floors=floors) for floors in (True, False))
    assert part == {name: value for name, value in whole.items() if "_floor" not in name}


def test_its_error_is_that_of_the_halvings():
    real, generated = torch.randn(80, 2), torch.randn(80, 2) + 1
    found = evaluation.landscape_energy(real, generated, 20, seed=2)
    assert found == evaluation.landscape_energy(real, generated, 20, seed=2)
    others = [evaluation.landscape_energy(real, generated, 20, seed=s) for s in range(3, 13)]
    spread = torch.tensor([each["landscape_energy_h0"] for each in others]).std().item()
    assert 0.5 < found["landscape_energy_h0_standard_error"] / spread < 2


def test_collapsed_samples_have_an_energy_too():
    found = evaluation.landscape_energy(torch.randn(40, 2), torch.zeros(20, 2), 10)
    assert found["landscape_energy_h0"] > 0
    same = evaluation.landscape_energy(torch.zeros(40, 2), torch.zeros(20, 2), 10)
    assert set(same.values()) == {0.0}


def test_bad_clouds_of_the_energy_form_are_named():
    with pytest.raises(ValueError, match="cloud_size: wanted at most half the 9 real"):
        evaluation.landscape_energy(torch.randn(9, 2), torch.randn(9, 2), 5)
    with pytest.raises(ValueError, match="real: wanted finite"):
        evaluation.landscape_energy(torch.full((9, 2), torch.nan), torch.randn(9, 2), 3)


# --- whole neighbour graphs


def test_graph_distances_are_persims_of_graphs_that_are_drawn_whole():
    """As many points as there are, so that only the halving is drawn: with 4 real ones there are three halvings."""
    real, generated = torch.tensor([[0.0], [1.0], [3.0], [7.0]]), torch.tensor([[0.0], [2.0]])
    found = evaluation.graph_distances(real, generated, neighbours=1, draws=40)
    assert found["graph_n"] == 2
    # graphs of one edge; each has a bar (0, its length) and one that ends with the longest of the three edges
    halvings = [([0, 1], [3, 7]), ([0, 3], [1, 7]), ([0, 7], [1, 3])]
    lengths = [(abs(a[0] - a[1]), abs(b[0] - b[1])) for a, b in halvings]
    values = []
    for first, second in [*lengths, *(pair[::-1] for pair in lengths)]:
        end = max(first, second, 2)
        bars = [np.array([[0, length], [0, end]], float) for length in (first, 2, second)]
        values.append([persim.sliced_wasserstein(bars[0], other) / 2 for other in bars[1:]])
    for end, wanted in zip(("", "_floor"), np.mean(values, axis=0), strict=True):
        assert abs(found[f"graph_h0{end}"] - wanted) < 4 * found[f"graph_h0{end}_standard_error"]
    assert found["graph_h1"] == 0


def test_thousands_of_points_tell_apart_what_small_clouds_do_not():
    """Of a plane and of one that is a hundredth thick: the distance stands out of its floor the more, the more points."""
    stream = torch.Generator().manual_seed(0)
    plane = torch.cat([torch.rand(6000, 2, generator=stream), torch.zeros(6000, 1)], 1)
    thick = plane[:3000] + 0.01 * torch.randn(3000, 3, generator=stream)
    ratios = []
    for points in (128, 3000):
        found = evaluation.graph_distances(plane, thick, points, neighbours=8, draws=3)
        assert found["graph_n"] == points
        ratios.append(found["graph_h0"] / found["graph_h0_floor"])
    assert ratios[0] < 2
    assert ratios[1] > 4
    fresh = torch.cat([torch.rand(3000, 2, generator=stream), torch.zeros(3000, 1)], 1)
    same = evaluation.graph_distances(plane, fresh, neighbours=8, draws=3)
    assert all(same[f"graph_h{h}"] < 2 * same[f"graph_h{h}_floor"] for h in (0, 1))


def test_graph_distances_depend_on_the_seed_alone_and_name_bad_arguments():
    real, generated = torch.randn(60, 3), torch.randn(40, 3)
    found = evaluation.graph_distances(real, generated, neighbours=4, seed=2)
    assert found == evaluation.graph_distances(real, generated, neighbours=4, seed=2)
    assert found != evaluation.graph_distances(real, generated, neighbours=4, seed=3)
    ends = ("", "_floor", "_standard_error", "_floor_standard_error")
    assert found.keys() == {f"graph_h{h}{end}" for h in (0, 1) for end in ends} | {"graph_n"}
    for wrong, message in (
        ({"points": 1}, "points: wanted at least 2"),
        ({"neighbours": 30}, "neighbours: wanted 1 <= neighbours < 30"),
        ({"draws": 1}, "draws: wanted at least 2"),
        ({"generated": torch.full((9, 3), torch.nan)}, "generated: wanted finite"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluation.graph_distances(**({"real": real, "generated": generated} | wrong))
