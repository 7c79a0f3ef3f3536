"""Two models over seeds: paired differences, exact tests, intervals, and the verdict on a prediction.

The seeds are the sample: what is said holds for the data set, the splits and the F that all the runs have in common.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

MOST = 20  # differences whose signs are all flipped: a million combinations
LEVEL = 0.95

Claim = Literal["better", "not-worse"]


class Paired(NamedTuple):
    """Differences to a baseline, seed by seed, in parts of the baseline's mean or as they are; negative ones are better.

    Attributes
    ----------
    seeds
        Which both have.
    differences
        One a seed.
    baseline, model
        Means of both over these seeds, a metric each, in the metric's unit.
    """

    seeds: tuple[int, ...]
    differences: np.ndarray
    baseline: dict[str, float]
    model: dict[str, float]

    @property
    def mean(self) -> float:
        """The effect."""
        return float(self.differences.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """95 % of Student's t."""
        return t_interval(self.differences)

    @property
    def standardised(self) -> float:
        """Cohen's d of paired data, the mean over the standard deviation; nan of one value, infinite of equal ones."""
        if len(self.differences) < 2:
            return math.nan
        spread = float(self.differences.std(ddof=1))
        return self.mean / spread if spread else math.copysign(math.inf, self.mean) if self.mean else 0.0


class ZeroBaselineError(ValueError):
    """Nothing is a part of zero."""


def paired(
    model: pd.DataFrame,
    baseline: pd.DataFrame,
    metrics: Mapping[str, Literal["lower", "higher"]],
    relative: bool = True,
) -> Paired:
    """Pair the rows of two models by ``seed`` and take the mean over the metrics of their differences.

    Each difference is divided by the baseline's mean over the seeds where ``relative``, and its sign turned where higher
    is better: a negative difference speaks for the model.

    Raises
    ------
    ValueError
        A metric is missing or not finite in a row, a seed is there twice, or no seed is in both.
    ZeroBaselineError
        A metric of the baseline is zero on average, and differences are wanted in parts of it.
    """
    rows = {}
    for name, table in (("model", model), ("baseline", baseline)):
        if missing := [metric for metric in metrics if metric not in table]:
            raise ValueError(f"{name}: wanted the metric {missing[0]!r}, got a table without it")
        if (repeated := table["seed"].duplicated()).any():
            raise ValueError(f"{name}: wanted one row a seed, got seed {table['seed'][repeated].iloc[0]} twice")
        rows[name] = table.set_index("seed")[list(metrics)].astype(float)
    seeds = sorted(set(rows["model"].index) & set(rows["baseline"].index))
    if not seeds:
        raise ValueError("model, baseline: wanted a seed that both have, got none")
    ours, theirs = (rows[name].loc[seeds] for name in ("model", "baseline"))
    for name, table in (("model", ours), ("baseline", theirs)):
        if not np.isfinite(table).all(axis=None):
            bad = table.columns[~np.isfinite(table).all()][0]
            raise ValueError(f"{name}: wanted finite values of {bad!r} for each seed, got one that is not")
    if relative and (theirs.mean() == 0).any():
        raise ZeroBaselineError(f"baseline: wanted a mean of {theirs.columns[theirs.mean() == 0][0]!r} that is not zero")
    signs = np.array([1 if better == "lower" else -1 for better in metrics.values()])
    units = theirs.mean().abs().to_numpy() if relative else 1.0
    differences = ((ours - theirs).to_numpy() * signs / units).mean(1)
    return Paired(tuple(seeds), differences, theirs.mean().to_dict(), ours.mean().to_dict())


def sign_flip(differences: ArrayLike, alternative: Literal["two-sided", "less"] = "two-sided") -> float:
    """Exact p-value of the hypothesis that the differences are symmetric about zero: all signs flipped, the mean compared.

    Fisher's randomisation test of paired data. The least value that n differences can have is 2 / 2ⁿ, or 1 / 2ⁿ one-sided.

    Raises
    ------
    ValueError
        Not 2 to 20 finite differences, or an unknown alternative.
    """
    values = _sample(differences)
    if not 2 <= len(values) <= MOST:
        raise ValueError(f"differences: wanted 2 to {MOST}, whose signs can all be flipped, got {len(values)}")
    if alternative not in ("two-sided", "less"):
        raise ValueError(f"alternative: wanted 'two-sided' or 'less', got {alternative!r}")
    found = stats.permutation_test(
        (values, np.zeros_like(values)),
        lambda x, y, axis: (x - y).mean(axis),
        permutation_type="samples",
        alternative=alternative,
        n_resamples=np.inf,
        batch=2**16,
    )
    return float(found.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number: Holm, "A simple sequentially rejective multiple test procedure", 1979.

    Raises
    ------
    ValueError
        A value is not within [0, 1].
    """
    values = np.asarray(p_values, dtype=float)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"p_values: wanted numbers from 0 to 1, got {list(p_values)}")
    order = np.argsort(values, kind="stable")
    scaled = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return adjusted.tolist()


def t_interval(values: ArrayLike, level: float = LEVEL) -> tuple[float, float]:
    """Student's interval of a mean; of one value everything is possible.

    Raises
    ------
    ValueError
        No values, one that is not finite, or a level that is not between 0 and 1.
    """
    sample = _sample(values)
    if not 0 < level < 1:
        raise ValueError(f"level: wanted a number between 0 and 1, got {level}")
    if len(sample) == 1:
        return -math.inf, math.inf
    half = stats.t.ppf((1 + level) / 2, len(sample) - 1) * sample.std(ddof=1) / math.sqrt(len(sample))
    return float(sample.mean() - half), float(sample.mean() + half)


def p_of_claim(differences: ArrayLike, claim: Claim, margin: float) -> float:
    """p-value of what a claim denies: of ``better`` no difference (two-sided), of ``not-worse`` a loss of ``margin``.

    For ``not-worse`` the margin is taken off the differences, whose signs are flipped then, one-sided: that half of a test
    of equivalence by two one-sided tests (Schuirmann 1987) which a claim of "comparable or improved" needs.

    Raises
    ------
    ValueError
        An unknown claim, a margin that is not positive, or see :func:`sign_flip`.
    """
    values = _sample(differences)
    if claim not in ("better", "not-worse"):
        raise ValueError(f"claim: wanted 'better' or 'not-worse', got {claim!r}")
    if not (math.isfinite(margin) and margin > 0):
        raise ValueError(f"margin: wanted a positive number, got {margin}")
    return sign_flip(values) if claim == "better" else sign_flip(values - margin, "less")


def verdict(found: Paired, claim: Claim, worth: float, adjusted: float, alpha: float = 0.05) -> str:
    """*confirmed*, *refuted* or *not decided*.

    A claim of ``better`` is confirmed where the adjusted p is below ``alpha`` and the mean is on its side; refuted where
    the p is as small with the mean on the other side, *or* where the whole 95 % interval lies above ``-worth``: a gain
    worth having is ruled out. ``not-worse`` is confirmed where its p is below ``alpha``; refuted where the whole interval
    lies above ``worth``.

    Raises
    ------
    ValueError
        An unknown claim.
    """
    if claim not in ("better", "not-worse"):
        raise ValueError(f"claim: wanted 'better' or 'not-worse', got {claim!r}")
    low = found.interval[0]
    if claim == "not-worse":
        return "confirmed" if adjusted < alpha else "refuted" if low > worth else "not decided"
    if adjusted < alpha:
        return "confirmed" if found.mean < 0 else "refuted"
    return "refuted" if low > -worth else "not decided"


def _sample(values: ArrayLike) -> np.ndarray:
    sample = np.asarray(values, dtype=float)
    if sample.ndim != 1 or not len(sample) or not np.isfinite(sample).all():
        raise ValueError(f"differences: wanted a row of finite numbers, got {values!r:.200}")
    return sample
