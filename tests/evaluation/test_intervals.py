"""Intervals over items: equal to scipy's bootstrap, of the right length, and paired between metrics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score

from topo_utils.evaluation import intervals
from topo_utils.metrics import metric


def drawn(n, seed=0):
    return torch.randn(n, generator=torch.Generator().manual_seed(seed))


def test_weights_are_shares_of_draws_with_replacement():
    weights = intervals.resampled(50, 3, "items")
    counts = weights * 50
    assert torch.allclose(counts, counts.round(), atol=1e-5)
    assert torch.allclose(weights.sum(1), torch.ones(len(weights)))
    assert counts.mean().item() == pytest.approx(1)
    assert counts.var().item() == pytest.approx(1 - 1 / 50, rel=0.02)  # a multinomial's: n p (1 - p)
    assert torch.equal(weights, intervals.resampled(50, 3, "items"))
    assert not torch.equal(weights, intervals.resampled(50, 4, "items"))
    assert not torch.equal(weights, intervals.resampled(50, 3, "outside"))


def test_the_interval_of_a_mean_is_that_of_scipy():
    values = drawn(200).exp()
    found = intervals.of_mean("kl", values)
    peer = stats.bootstrap((values.numpy(),), np.mean, method="percentile", n_resamples=20000, rng=0)
    spread = float(peer.standard_error)
    for end in ("low", "high"):  # a percentile of 1,000 draws scatters by about .08 standard errors
        assert found[f"kl_{end}"] == pytest.approx(getattr(peer.confidence_interval, end), abs=0.3 * spread)
    # skew to the right: the upper end is farther away
    assert found["kl_high"] - values.mean() > values.mean() - found["kl_low"]


def test_its_length_is_that_of_the_normal_distribution_where_there_are_many():
    values = drawn(2000)
    found = intervals.of_mean("kl", values)
    assert found["kl_high"] - found["kl_low"] == pytest.approx(2 * 1.96 / math.sqrt(2000), rel=0.1)
    assert found["kl_low"] < values.mean() < found["kl_high"]


def test_most_intervals_hold_the_truth():
    ends = [intervals.of_mean("kl", drawn(60, seed), seed).values() for seed in range(200)]
    covered = sum(low < 0 < high for low, high in ends) / 200
    assert 0.89 < covered < 0.98  # .95 less a little at 60 items; its standard error is .016


@pytest.mark.parametrize("decimals", [4, 0])  # without and with ties
def test_the_interval_of_an_area_is_that_of_scikit_learn_over_the_same_resamples(decimals):
    inside, outside = drawn(40).round(decimals=decimals), (drawn(30, 1) + 0.7).round(decimals=decimals)
    found = intervals.of_auroc("kl", inside, outside, 5)
    weights = [intervals.resampled(n, 5, name) for n, name in ((40, "inside"), (30, "outside"))]
    labels, scores = np.repeat([0, 1], [40, 30]), torch.cat([inside, outside]).numpy()
    areas = [roc_auc_score(labels, scores, sample_weight=torch.cat(pair)) for pair in zip(*weights, strict=True)]
    low, high = np.percentile(areas, [2.5, 97.5])
    assert (found["kl_low"], found["kl_high"]) == pytest.approx((low, high), abs=1e-5)
    assert found["kl_low"] < roc_auc_score(labels, scores) < found["kl_high"]


def test_a_constant_has_an_interval_of_no_length():
    assert list(intervals.of_mean("kl", torch.full((7,), 2.0)).values()) == pytest.approx([2, 2])
    told = intervals.of_auroc("kl", torch.zeros(5), torch.ones(6))
    assert list(told.values()) == pytest.approx([1, 1])


def test_what_is_no_sample_is_named():
    with pytest.raises(ValueError, match="values"):
        intervals.of_mean("kl", torch.tensor([1.0, math.nan]))
    with pytest.raises(ValueError, match="count"):
        intervals.resampled(0)


def test_an_end_is_a_metric_in_words():
    assert metric("pgd_area_low").meaning.endswith("lower end of its 95 % interval over items")
    assert metric("ood_auroc_knn_rotated_high").unit == "area"
    assert metric("reconstruction_error_high").better is None
    with pytest.raises(ValueError, match="bogus"):
        metric("bogus_low")
