"""Paired tests by hand and by scipy; verdicts as the rules say; and how often they err where nothing is to be found."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from topo_utils.evaluation.statistics import Paired, holm, p_of_claim, paired, sign_flip, t_interval, verdict

VALUES = st.lists(st.floats(-5, 5).filter(lambda x: abs(x) > 1e-3), min_size=2, max_size=7)


def table(**columns):
    return pd.DataFrame(columns)


def of(*differences):
    return Paired(tuple(range(len(differences))), np.array(differences, dtype=float), {}, {})


# --- pairs


def test_rows_are_paired_by_seed_whatever_their_order():
    model = table(seed=[2, 0, 1, 7], kl=[3.0, 1.0, 2.0, 99.0])
    baseline = table(seed=[0, 1, 2], kl=[2.0, 2.0, 2.0])
    found = paired(model, baseline, {"kl": "lower"})
    assert found.seeds == (0, 1, 2)
    assert found.differences.tolist() == [-0.5, 0, 0.5]
    assert (found.model, found.baseline) == ({"kl": 2.0}, {"kl": 2.0})
    assert paired(model, baseline, {"kl": "lower"}, relative=False).differences.tolist() == [-1, 0, 1]
    assert paired(model, baseline, {"kl": "higher"}).differences.tolist() == [0.5, 0, -0.5]


def test_several_metrics_count_alike_each_in_parts_of_its_baseline():
    model, baseline = table(seed=[0, 1], a=[5.0, 10], b=[0.3, 0.3]), table(seed=[0, 1], a=[10.0, 30], b=[0.2, 0.2])
    found = paired(model, baseline, {"a": "lower", "b": "higher"})
    # a: -5/20 and -20/20; b: higher is better by .1/.2
    assert found.differences == pytest.approx([(-0.25 - 0.5) / 2, (-1 - 0.5) / 2])
    assert found.mean == pytest.approx(-0.5625)
    assert found.standardised == pytest.approx(-0.5625 / np.std([-0.375, -0.75], ddof=1))


def test_differences_that_are_all_the_same_have_no_spread():
    assert of(-1, -1).standardised == -math.inf
    assert of(0, 0).standardised == 0
    assert of(0.5, 0.5).interval == (0.5, 0.5)
    assert math.isnan(of(3).standardised)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"seed": [0], "x": [1.0]}}, "model: wanted the metric 'kl'"),
        ({"model": {"seed": [0, 0], "kl": [1.0, 2]}}, "model: wanted one row a seed, got seed 0 twice"),
        ({"model": {"seed": [5], "kl": [1.0]}}, "wanted a seed that both have"),
        ({"model": {"seed": [0], "kl": [math.nan]}}, "model: wanted finite values of 'kl'"),
        ({"baseline": {"seed": [0], "kl": [math.inf]}}, "baseline: wanted finite values of 'kl'"),
        ({"baseline": {"seed": [0], "kl": [0.0]}}, "baseline: wanted a mean of 'kl' that is not zero"),
    ],
)
def test_tables_that_cannot_be_compared_are_named(change, message):
    tables = {"model": {"seed": [0], "kl": [1.0]}, "baseline": {"seed": [0], "kl": [1.0]}} | change
    with pytest.raises(ValueError, match=message):
        paired(*(table(**tables[name]) for name in ("model", "baseline")), {"kl": "lower"})


# --- tests


@given(VALUES)
def test_all_signs_are_flipped(values):
    sums = [
        sum(s * v for s, v in zip(signs, values, strict=True)) for signs in itertools.product((1, -1), repeat=len(values))
    ]
    seen = sum(values)
    less = np.mean([s <= seen + 1e-9 for s in sums])
    assert sign_flip(values, "less") == pytest.approx(less)
    assert sign_flip(values) == pytest.approx(np.mean([abs(s) >= abs(seen) - 1e-9 for s in sums]))


def test_the_least_p_of_so_many_seeds():
    assert sign_flip([-1] * 3) == 0.25
    assert sign_flip([-1.0, -2, -0.5, -3, -1]) == 2 / 32
    assert sign_flip(-np.arange(1.0, 11)) == 2 / 1024
    assert sign_flip(-np.arange(1.0, 11), "less") == 1 / 1024
    assert sign_flip([1, -1]) == 1
    assert sign_flip([0, 0, 0]) == 1


def test_holm_by_hand():
    # .01 × 4, .02 × 3, .03 × 2, .5 × 1, never falling
    assert holm([0.5, 0.01, 0.03, 0.02]) == pytest.approx([0.5, 0.04, 0.06, 0.06])
    assert holm([0.04, 0.04]) == pytest.approx([0.08, 0.08])
    assert holm([0.9, 0.9]) == [1, 1]
    assert holm([]) == []
    with pytest.raises(ValueError, match="p_values"):
        holm([0.1, 1.2])


def test_the_interval_is_students():
    values = [1.0, 2, 4, 3]
    wanted = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert t_interval(values) == pytest.approx((wanted.low, wanted.high))
    assert t_interval([3.0]) == (-math.inf, math.inf)
    with pytest.raises(ValueError, match="level"):
        t_interval(values, 95)


def test_not_worse_is_tested_at_the_margin():
    worse_by_a_little = np.full(10, 0.02) + np.linspace(-0.01, 0.01, 10)
    assert p_of_claim(worse_by_a_little, "not-worse", 0.1) == 1 / 1024  # all are better than a loss of .1
    assert p_of_claim(worse_by_a_little, "not-worse", 0.005) > 0.99
    assert p_of_claim(worse_by_a_little, "better", 0.1) == 2 / 1024


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sign_flip([]), "differences"),
        (lambda: sign_flip([math.nan]), "differences"),
        (lambda: sign_flip([[1.0]]), "differences"),
        (lambda: sign_flip([1.0] * 21), "2 to 20"),
        (lambda: sign_flip([1.0]), "2 to 20"),
        (lambda: sign_flip([1.0, 2], "more"), "alternative"),
        (lambda: p_of_claim([1.0, 2], "best", 0.1), "claim"),
        (lambda: p_of_claim([1.0, 2], "better", 0), "margin"),
        (lambda: verdict(of(1.0), "best", 0.1, 0.5), "claim"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- verdicts


@pytest.mark.parametrize(
    ("differences", "claim", "adjusted", "wanted"),
    [
        ((-0.3, -0.2, -0.4), "better", 0.01, "confirmed"),
        ((0.3, 0.2, 0.4), "better", 0.01, "refuted"),  # it is worse
        ((0.01, -0.01, 0.0), "better", 0.9, "refuted"),  # no gain of .1 is left
        ((-0.3, 0.2, -0.4), "better", 0.9, "not decided"),
        ((-0.3, -0.2, -0.4), "better", 0.06, "not decided"),
        ((0.01, -0.01, 0.0), "not-worse", 0.01, "confirmed"),
        ((0.5, 0.4, 0.45), "not-worse", 1.0, "refuted"),
        ((0.1, 0.3, -0.2), "not-worse", 0.6, "not decided"),
    ],
)
def test_the_verdict_follows_from_the_rules(differences, claim, adjusted, wanted):
    assert verdict(of(*differences), claim, 0.1, adjusted) == wanted


def test_where_nothing_is_to_be_found_it_is_rarely_found():
    stream = np.random.default_rng(0)
    draws = 2000
    found = sum(sign_flip(stream.normal(size=6)) < 0.05 for _ in range(draws)) / draws
    assert found == pytest.approx(2 / 64, abs=0.012)  # 3 standard errors; two-sided, one outcome of 32 on each side
