"""Fidelity of samples in features: against torchmetrics, by hand, and where nothing differs."""

from __future__ import annotations

import math
import sys

import networkx as nx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.image.kid import poly_mmd

from topo_utils import datasets
from topo_utils.datasets._graphlets import orbit_counts
from topo_utils.evaluation import (
    feature_distances,
    frechet_distance,
    kernel_distance,
    neighbourhoods,
    statistics_distances,
)
from topo_utils.metrics import metric
from topo_utils.models.inception import Inception
from topo_utils.seed import generator


def features(n, seed, d=4, shift=0.0, scale=1.0):
    return scale * torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + shift


@given(st.integers(0, 1000), st.integers(3, 40), st.integers(3, 40), st.integers(1, 6))
def test_the_kernel_distance_is_that_of_torchmetrics(seed, n, m, d):
    x, y = features(n, seed, d).double(), features(m, seed + 1, d, 0.5).double()

    def kernel(a, b):
        return (a @ b.T / d + 1) ** 3

    if n == m:  # torchmetrics knows equal numbers alone
        from torchmetrics.image.kid import maximum_mean_discrepancy

        assert kernel_distance(x, y)[0] == pytest.approx(poly_mmd(x, y).item(), rel=1e-9)
        assert kernel_distance(x, y)[0] == pytest.approx(
            maximum_mean_discrepancy(kernel(x, x), kernel(x, y), kernel(y, y)).item(), rel=1e-9
        )
    by_hand = [
        sum(kernel(x, x)[i, j] for i in range(n) for j in range(n) if i != j) / (n * (n - 1)),
        sum(kernel(y, y)[i, j] for i in range(m) for j in range(m) if i != j) / (m * (m - 1)),
        -2 * kernel(x, y).mean(),
    ]
    assert kernel_distance(x, y)[0] == pytest.approx(sum(by_hand).item(), rel=1e-9)
    assert kernel_distance(x.float(), y.float())[0] == pytest.approx(sum(by_hand).item(), rel=1e-3)


def test_its_error_is_that_of_repetitions():
    for n, m, shift in ((60, 90, 0.5), (80, 80, 0.0)):
        found = [kernel_distance(features(n, 2 * s), features(m, 2 * s + 1, shift=shift)) for s in range(200)]
        values, errors = torch.tensor(found, dtype=torch.float64).T
        assert 0.8 < errors.mean() / values.std() < 1.6  # where nothing differs the jackknife errs on the safe side
        assert shift or abs(values.mean()) < 4 * values.std() / 200**0.5


def test_the_jackknife_leaves_out_each_item():
    x, y = features(5, 0).double(), features(4, 1).double()
    left = torch.tensor([kernel_distance(torch.cat([x[:i], x[i + 1 :]]), y)[0] for i in range(5)])
    right = torch.tensor([kernel_distance(x, torch.cat([y[:i], y[i + 1 :]]))[0] for i in range(4)])
    squares = [(n - 1) / n * (each - each.mean()).square().sum() for n, each in ((5, left), (4, right))]
    assert kernel_distance(x, y)[1] == pytest.approx(sum(squares).sqrt().item(), rel=1e-5)


def test_shares_by_hand():
    real = torch.tensor([[0.0], [1.0], [3.0], [10.0]])  # balls to the nearest: radii 1, 1, 2, 7
    generated = torch.tensor([[0.5], [2.5], [3.5], [50.0]])  # radii 2, 1, 1, 46.5
    found = neighbourhoods(real, generated, 1)
    assert found["precision"] == pytest.approx(3 / 4)  # .5 in two balls, 2.5 in that of 3, 3.5 in those of 3 and 10
    assert found["density"] == pytest.approx((2 + 1 + 2 + 0) / 4)
    assert found["coverage"] == pytest.approx(4 / 4)
    assert found["recall"] == pytest.approx(4 / 4)  # 0 and 1 in that of .5, 3 in that of 2.5, 10 in that of 50
    other = neighbourhoods(real, torch.tensor([[0.5], [0.6], [0.7], [0.8]]), 1)
    far = neighbourhoods(real, torch.tensor([[0.5], [0.6], [-9.0], [-9.5]]), 1)
    assert (far["precision"], far["recall"], far["coverage"]) == (2 / 4, 0, 2 / 4)
    wide = neighbourhoods(torch.tensor([[0.0], [0.1], [5.0], [5.2]]), torch.tensor([[1.0], [-3.0], [-9.0], [-9.5]]), 1)
    assert (wide["precision"], wide["recall"]) == (0, 2 / 4)  # only the ball of 1 holds real ones
    assert other == {"precision": 1, "recall": 0, "density": pytest.approx(2), "coverage": pytest.approx(2 / 4)}


def test_one_distribution_has_everything_and_a_part_of_it_lacks_recall():
    real, same = features(500, 0), features(500, 1)
    found = neighbourhoods(real, same)
    assert found["density"] == pytest.approx(1, abs=0.1)  # the expectation, Naeem et al., section 3
    assert found["coverage"] == pytest.approx(1 - 1 / 2**5, abs=0.03)  # the same, equation 8, for many items
    narrow = neighbourhoods(real, 0.1 * same)
    assert narrow["precision"] > 0.99
    assert narrow["recall"] < 0.1 * found["recall"]
    assert neighbourhoods(real, same + 100) == {"precision": 0, "recall": 0, "density": 0, "coverage": 0}


def test_halves_floors_and_names():
    real, generated = features(90, 0), features(60, 1, shift=0.3)
    found = feature_distances(real, generated, "judge", seed=3)
    first, second = real[torch.randperm(90, generator=generator(3, "frechet", "real"))[:90]].split(45)
    fake = generated[torch.randperm(60, generator=generator(3, "frechet", "generated"))[:45]]
    assert found["frechet_judge_n"] == 45
    assert found["frechet_judge"] == frechet_distance(first, fake)
    assert found["frechet_judge_floor"] == frechet_distance(first, second)
    assert (found["kid_judge"], found["kid_judge_standard_error"]) == kernel_distance(first, fake)
    assert (found["kid_judge_floor"], found["kid_judge_floor_standard_error"]) == kernel_distance(first, second)
    for name, value in neighbourhoods(first, fake).items():
        assert found[f"{name}_judge"] == value
    for name, value in neighbourhoods(first, second).items():
        assert found[f"{name}_judge_floor"] == value
    assert feature_distances(real, generated, "judge", seed=3) == found
    assert feature_distances(real, generated, "judge", seed=4) != found
    assert all(metric(name) for name in feature_distances(real, generated))
    fid = feature_distances(real, generated, "inception", seed=3)
    assert fid["fid"] == found["frechet_judge"]
    assert all(metric(name) for name in fid)


def test_the_spread_of_the_floor_is_that_of_other_halvings():
    real = features(400, 5)
    floors = []
    for s in range(40):
        order = torch.randperm(400, generator=torch.Generator().manual_seed(s))
        floors.append(frechet_distance(real[order[:200]], real[order[200:]]))
    wanted = torch.tensor(floors).std().item()
    assert feature_distances(real, real)["frechet_classifier_floor_spread"] == pytest.approx(wanted, rel=0.6)


def test_few_features_have_fewer_neighbours():
    found = feature_distances(features(6, 0), features(3, 1))
    assert found["frechet_classifier_n"] == 3
    assert 0 <= found["precision_classifier"] <= 1


def test_histograms_are_compared_by_their_total_variation():
    rows = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0.5, 0.5, 0], [0, 0, 1], [0.2, 0.3, 0.5], [1, 0, 0]])
    made = torch.tensor([[0.0, 0, 1], [0, 0.5, 0.5], [0.1, 0, 0.9]])

    def kernel(p, q):
        return math.exp(-((sum(abs(a - b) for a, b in zip(p, q, strict=True)) / 2) ** 2) / 2)

    first, second = rows[torch.randperm(6, generator=generator(4, "statistics", "real"))].tolist(), made.tolist()
    first, other = first[:3], first[3:]

    def by_hand(x, y):
        within = [sum(kernel(a[i], a[j]) for i in range(3) for j in range(3) if i != j) / 6 for a in (x, y)]
        return sum(within) - 2 * sum(kernel(p, q) for p in x for q in y) / 9

    found = statistics_distances({"degree": rows}, {"degree": made}, seed=4)
    assert found["mmd_degree"] == pytest.approx(by_hand(first, second))
    assert found["mmd_degree_floor"] == pytest.approx(by_hand(first, other))
    assert all(metric(name) for name in found)
    assert statistics_distances({}, {}) == {}


def test_statistics_of_graphs_are_histograms():
    data = datasets.load("social", "test")
    found = data.domain.statistics(data.items[:20])
    assert {name: each.shape[1] for name, each in found.items()} == {"degree": 31, "clustering": 10, "orbit": 15}
    for each in found.values():
        torch.testing.assert_close(each.sum(1), torch.ones(20))
    graph = nx.from_numpy_array(data.items[3].numpy())
    graph.remove_nodes_from(list(nx.isolates(graph)))
    degrees = [d for _, d in graph.degree]
    assert found["degree"][3, 4].item() == pytest.approx(degrees.count(5) / len(degrees))
    full = [c for c in nx.clustering(graph).values() if c > 0.95]
    assert found["clustering"][3, 9].item() == pytest.approx(len(full) / len(graph))
    edges = graph.number_of_edges()
    share = 2 * edges / orbit_counts(nx.to_numpy_array(graph).astype(bool)).sum()
    assert found["orbit"][3, 0].item() == pytest.approx(share, rel=1e-4)
    empty = data.domain.statistics(torch.zeros(1, 32, 32))
    assert empty["orbit"][0].tolist() == pytest.approx([1 / 15] * 15)
    same = statistics_distances(data.domain.statistics(data.items[:60]), data.domain.statistics(data.items[60:120]))
    for name in ("degree", "clustering", "orbit"):
        assert abs(same[f"mmd_{name}"]) < 5 * same[f"mmd_{name}_standard_error"]
    noise = data.domain.outliers(data.items, torch.Generator().manual_seed(0))["shuffled"][:60]
    far = statistics_distances(data.domain.statistics(data.items[:60]), data.domain.statistics(noise))
    assert far["mmd_clustering"] > 4 * far["mmd_clustering_standard_error"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((features(5, 0), features(5, 1)), "real: wanted at least 6 rows"),
        ((features(8, 0), features(8, 1, d=3)), "generated: wanted at least 3 rows of 4"),
        ((features(8, 0) * torch.nan, features(8, 1)), "real: wanted finite"),
    ],
)
def test_bad_features_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        feature_distances(*arguments)
    with pytest.raises(ValueError, match="k: wanted"):
        neighbourhoods(features(8, 0), features(8, 1), 0)
    with pytest.raises(ValueError, match="real: wanted at least 6 rows"):
        neighbourhoods(features(5, 0), features(8, 1))


class Pooled(torch.nn.Module):
    """Stands for torch-fidelity's network: the means of the channels it was given, as bytes."""

    def __init__(self, name, features_list, feature_extractor_weights_path):
        super().__init__()
        assert (name, features_list) == ("inception", ["2048"])

    def forward(self, x):
        assert x.dtype == torch.uint8
        assert x.shape[1] == 3
        return (x.float().mean((2, 3)),)


def test_inception_is_not_downloaded_and_says_what_is_missing(tmp_path, monkeypatch, home):
    with pytest.raises(FileNotFoundError, match=r"weights-inception-2015-12-05.*releases of torch-fidelity.*TOPO_DATA"):
        Inception()
    (tmp_path / "inception").mkdir()
    file = tmp_path / "inception" / "weights-inception-2015-12-05-6726825d.pth"
    file.write_bytes(b"weights")
    monkeypatch.setenv("TOPO_DATA", str(tmp_path))
    assert Inception.file() == file
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    with pytest.raises(ModuleNotFoundError, match="pip install torch-fidelity"):
        Inception()


def test_images_are_given_to_inception_as_bytes(tmp_path, monkeypatch):
    module = type(sys)("torch_fidelity.feature_extractor_inceptionv3")
    module.FeatureExtractorInceptionV3 = Pooled
    monkeypatch.setitem(sys.modules, "torch_fidelity", type(sys)("torch_fidelity"))
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", module)
    (tmp_path / "w.pth").write_bytes(b"")
    network = Inception(tmp_path / "w.pth")
    grey = torch.full((2, 1, 8, 8), 0.5)
    assert network.features(grey).tolist() == [[128.0] * 3] * 2
    with pytest.raises(ValueError, match=r"x: wanted images \(batch, 1 or 3, h, w\) in \[0, 1\]"):
        network.features(grey - 1)
