"""Predictions that were written down before the runs, and what the records say of each."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
import yaml
from pydantic import Field

from topo_utils.config import ConfigError, Strict
from topo_utils.evaluation.statistics import ZeroBaselineError, holm, p_of_claim, paired, verdict
from topo_utils.metrics import metric

DEFAULT = "default"
NUMBERS = ("baseline", "model", "difference", "low", "high", "standardised")


class Prediction(Strict):
    """One prediction, for each data set that has its metrics.

    Attributes
    ----------
    name, says
        A word, and the prediction in the proposal's words.
    metrics
        Names of metrics by data set, ``default`` for those not named; the mean of their differences is tested. What is
        better, the table of metrics says.
    claim
        ``better``, or ``not-worse``: worse by less than ``worth``.
    relative
        Differences are in parts of the baseline's mean.
    worth
        The smallest difference worth having.
    """

    name: str
    says: str
    metrics: dict[str, Annotated[list[str], Field(min_length=1)]]
    claim: Literal["better", "not-worse"]
    relative: bool = True
    worth: Annotated[float, Field(gt=0)]

    def of(self, dataset: str) -> dict[str, str]:
        """Its metrics on a data set, and which direction of each is better; none where it says nothing of that."""
        names = self.metrics.get(dataset, self.metrics.get(DEFAULT, []))
        return {name: metric(name).better for name in names}


class Hypotheses(Strict):
    """What is compared with what, and what is expected of it.

    Attributes
    ----------
    model
        The model of whom something is predicted.
    baselines
        What the predictions compare it with: of several names the first that a data set has, for the same model is called
        ``vae`` at β = 1 and ``vae-weak-kl`` below.
    controls
        Other models to compare it with: whatever they have as well is not topology's.
    alpha
        Level of the tests, after Holm's correction over all predictions and data sets with one baseline.
    """

    model: str
    baselines: Annotated[list[str], Field(min_length=1)]
    controls: list[str] = []
    alpha: Annotated[float, Field(gt=0, lt=1)]
    predictions: Annotated[list[Prediction], Field(min_length=1)]


def read_hypotheses(file: Path) -> Hypotheses:
    """Read a YAML file of the fields of :class:`Hypotheses`.

    Raises
    ------
    ConfigError
        It is missing, no YAML, or not as described; a metric is unknown or has no better direction; a name is there twice.
    """
    try:
        content = yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"the hypotheses '{file}' cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: wanted the fields of Hypotheses, got {content!r:.80}")
    predictions = [Prediction(**each) for each in content.pop("predictions", None) or []]
    hypotheses = Hypotheses(**content, predictions=predictions)
    names = [each.name for each in predictions]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"{file}: the prediction '{repeated[0]}' is there twice")
    for prediction in predictions:
        for dataset in prediction.metrics:
            try:
                undirected = [name for name, better in prediction.of(dataset).items() if better is None]
            except ValueError as error:
                raise ConfigError(f"{file}, prediction '{prediction.name}': {error}") from None
            if undirected:
                raise ConfigError(f"{file}, prediction '{prediction.name}': '{undirected[0]}' has no better direction")
    return hypotheses


def judged(table: pd.DataFrame, hypotheses: Hypotheses, control: str | None = None) -> pd.DataFrame:
    """Each prediction on each data set: means, paired difference with its interval, p-value, verdict.

    Parameters
    ----------
    table
        Rows of records, with the columns ``dataset``, ``seed`` and ``model``, and one row a data set, seed and model.
    control
        To compare with, in the place of the baseline.

    Returns
    -------
    DataFrame
        Columns ``prediction``, ``dataset``, ``metrics``, ``seeds`` (their number), ``baseline`` and ``model`` (means of the
        first metric), ``difference`` (of all metrics; negative is better), ``low``, ``high``, ``standardised``, ``p``,
        ``adjusted``, ``verdict``. Data sets without both models, or with fewer than two seeds of both, have no row. Where a
        baseline is zero on average, nothing can be a part of it: the difference is NaN, the prediction not decided.

    Raises
    ------
    ValueError
        A metric is missing in a row, see :func:`~topo_utils.evaluation.statistics.paired`.
    """
    rows, found = [], []
    for dataset, of_data in table.groupby("dataset", sort=True):
        names = [control] if control else hypotheses.baselines
        baseline = next((name for name in names if (of_data["model"] == name).any()), None)
        sides = [of_data[of_data["model"] == name] for name in (hypotheses.model, baseline)]
        if len(shared := set(sides[0]["seed"]) & set(sides[1]["seed"])) < 2:
            continue
        for prediction in hypotheses.predictions:
            if not (metrics := prediction.of(dataset)):
                continue
            about = {"prediction": prediction.name, "dataset": dataset, "metrics": ", ".join(metrics), "seeds": len(shared)}
            values, p = [math.nan] * len(NUMBERS), 1.0
            try:
                pair = paired(*sides, metrics, prediction.relative)
            except ZeroBaselineError:
                pair = None
            else:
                first, (low, high) = next(iter(metrics)), pair.interval
                values = [pair.baseline[first], pair.model[first], pair.mean, low, high, pair.standardised]
                p = p_of_claim(pair.differences, prediction.claim, prediction.worth)
            rows.append({**about, **dict(zip(NUMBERS, values, strict=True)), "p": p})
            found.append((pair, prediction))
    for row, (pair, prediction), adjusted in zip(rows, found, holm([row["p"] for row in rows]), strict=True):
        row["adjusted"] = adjusted
        decided = pair and verdict(pair, prediction.claim, prediction.worth, adjusted, hypotheses.alpha)
        row["verdict"] = decided or "not decided"
    return pd.DataFrame(rows)


def score(table: pd.DataFrame, reference: pd.Series, hypotheses: Hypotheses) -> pd.Series:
    """Of each row one number to choose by; lower is better, and the reference's own is zero.

    It is the mean over the predictions of the mean difference of their metrics to the reference, in units of the smallest
    difference worth having: a tenth of the one weighs as much as two hundredths of the other, where these are worth having.

    Parameters
    ----------
    table
        Rows of one data set, such as the trials of a search on validation items.
    reference
        Such a row.

    Raises
    ------
    ValueError
        Rows of another data set; a metric is missing or not finite, or zero in the reference where parts of it are wanted;
        no prediction speaks of the data set.
    """
    dataset = reference["dataset"]
    if others := sorted(set(table["dataset"]) - {dataset}):
        raise ValueError(f"table: wanted rows of '{dataset}', as the reference is, got '{others[0]}'")
    predictions = [each for each in hypotheses.predictions if each.of(dataset)]
    if not predictions:
        raise ValueError(f"hypotheses: wanted a prediction of '{dataset}', got none")
    whole, parts = pd.concat([table, reference.to_frame().T]), []
    for prediction in predictions:
        metrics = prediction.of(dataset)
        for name, better in metrics.items():
            if name not in whole or not np.isfinite(whole[name].astype(float)).all():
                raise ValueError(f"table, reference: wanted finite values of '{name}' in each row")
            unit = abs(reference[name]) if prediction.relative else 1.0
            if unit == 0:
                raise ZeroBaselineError(f"reference: wanted a '{name}' that is not zero")
            sign = 1 if better == "lower" else -1
            parts.append(sign * (table[name] - reference[name]) / unit / prediction.worth / len(metrics))
    return sum(parts) / len(predictions)
