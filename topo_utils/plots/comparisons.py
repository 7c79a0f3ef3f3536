"""Figures of experiments: models beside each other, seed by seed."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from topo_utils.metrics import metric
from topo_utils.plots._style import COLOURS, NAMES, styled

VERDICTS = {"confirmed": "#009E73", "refuted": "#D55E00", "not decided": "#777777"}


@styled
def effects(found: pd.DataFrame, worth: dict[str, float]) -> Figure:
    """Each prediction's paired difference with its 95 % interval, one panel a data set; left of zero speaks for the model.

    Parameters
    ----------
    found
        Rows of :func:`topo_utils.evaluation.hypotheses.judged`.
    worth
        The smallest difference worth having, by prediction: a tick on both sides of zero.
    """
    datasets, names = list(dict.fromkeys(found["dataset"])), list(worth)
    size = (4.2 * len(datasets) + 1.2, 0.45 * len(names) + 1.3)
    figure, axes = plt.subplots(1, len(datasets), figsize=size, sharey=True, squeeze=False)
    for axis, dataset in zip(axes[0], datasets, strict=True):
        for _, row in found[found["dataset"] == dataset].iterrows():
            height, colour = names.index(row["prediction"]), VERDICTS[row["verdict"]]
            axis.plot([row["low"], row["high"]], [height] * 2, color=colour, linewidth=2)
            axis.plot(row["difference"], height, "o", color=colour)
            least = worth[row["prediction"]]
            axis.plot([-least, least], [height] * 2, "|", color="#333333", markersize=12)
        axis.axvline(0, color="#333333", linewidth=0.8)
        axis.set(title=dataset, xlabel="difference to the baseline, better ←", yticks=range(len(names)), yticklabels=names)
    axes[0, 0].invert_yaxis()
    handles = [plt.Line2D([], [], color=colour, marker="o", label=name) for name, colour in VERDICTS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


@styled
def by_seed(table: pd.DataFrame, metrics: dict[str, str], models: list[str]) -> Figure:
    """Values of each model, a dot a seed, joined seed by seed; one row of panels a data set, one column a metric.

    Parameters
    ----------
    table
        Rows of records with ``dataset``, ``model`` and ``seed``.
    metrics
        Titles by the name of the metric; a panel of a metric that a data set has not stays away.
    models
        From left to right; those that a data set has not are left out.
    """
    datasets = list(dict.fromkeys(table["dataset"]))
    shown = [(d, m) for d in datasets for m in metrics if m in table and table.loc[table["dataset"] == d, m].notna().any()]
    columns = min(3, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.6 * columns, 2.7 * rows), squeeze=False)
    for axis in axes.flat[len(shown) :]:
        axis.remove()
    for axis, (dataset, name) in zip(axes.flat, shown, strict=False):
        of_data = table[table["dataset"] == dataset].pivot(index="seed", columns="model", values=name)
        there = [model for model in models if model in of_data]
        for _, values in of_data[there].iterrows():
            axis.plot(range(len(there)), values, color="#BBBBBB", linewidth=0.7, zorder=1)
        for place, model in enumerate(there):
            axis.scatter([place] * len(of_data), of_data[model], s=12, color=COLOURS[model], zorder=2)
            axis.plot([place - 0.25, place + 0.25], [of_data[model].mean()] * 2, color=COLOURS[model], linewidth=2.5)
        labels = [NAMES[model].replace("VAE + ", "+ ").replace(" to a shuffled cloud", ",\nshuffled") for model in there]
        axis.set(title=f"{dataset}: {metrics[name]}", ylabel=metric(name).unit, xticks=range(len(there)))
        axis.set_xticklabels(labels, fontsize=7)
    return figure


@styled
def learning_curves(table: pd.DataFrame, metrics: dict[str, str], models: list[str]) -> Figure:
    """Metrics against the number of training items: means over the seeds joined, a dot a seed; one row of panels a budget.

    Parameters
    ----------
    table
        Rows of records with ``model``, ``seed``, ``train_items`` and ``budget``, how much training: the title of a row of
        panels, in the order in which they come.
    metrics
        Titles by the name of the metric, a column of panels each.
    models
        In the order of the legend; a model that stands at one number of items has a diamond and no line.
    """
    budgets = list(dict.fromkeys(table["budget"]))
    size = (2.5 * len(metrics), 2.1 * len(budgets) + 0.6)
    figure, axes = plt.subplots(len(budgets), len(metrics), figsize=size, sharex=True, squeeze=False)
    for row, budget in enumerate(budgets):
        for axis, (name, title) in zip(axes[row], metrics.items(), strict=True):
            for place, model in enumerate(models):
                mine = table[(table["budget"] == budget) & (table["model"] == model)]
                beside = 1.06 ** (place - (len(models) - 1) / 2)  # dots of several models at one number of items
                axis.scatter(mine["train_items"] * beside, mine[name], s=6, color=COLOURS[model], alpha=0.6, linewidths=0)
                means = mine.groupby("train_items")[name].mean()
                style = "o-" if len(means) > 1 else "D"
                axis.plot(means.index * beside, means, style, color=COLOURS[model], markersize=4, linewidth=1.2)
            axis.set_xscale("log")
            axis.set_xticks(items := sorted(set(table["train_items"])), [f"{each:,}" for each in items], fontsize=7)
            axis.minorticks_off()
            axis.set_title(title if row == 0 else "", fontsize=9)
            axis.set_xlabel("training items" if row == len(budgets) - 1 else "")
        axes[row, 0].set_ylabel(budget)
    handles = [plt.Line2D([], [], color=COLOURS[model], marker="o", label=NAMES[model]) for model in models]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(3, len(models)))
    return figure


@styled
def surfaces(panels: dict[str, pd.DataFrame], label: str, most: float | None = None) -> Figure:
    """Tables as colours with their numbers, on one scale about zero: blue is below, red above.

    Parameters
    ----------
    panels
        The tables by title; rows and columns are labelled by their index, and the axes by its name.
    label
        Of the scale.
    most
        Where the colours end, on both sides; None: at the largest value.
    """
    widths = [table.shape[1] + 1.5 for table in panels.values()]
    rows = max(table.shape[0] for table in panels.values())
    size = (0.55 * sum(widths) + 1.2, 0.42 * rows + 1.2)
    figure, axes = plt.subplots(1, len(panels), figsize=size, squeeze=False, width_ratios=widths)
    most = most or max(float(table.abs().max(axis=None)) for table in panels.values())
    for axis, (title, table) in zip(axes[0], panels.items(), strict=True):
        shown = axis.imshow(table, cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto")
        for (y, x), value in np.ndenumerate(table.to_numpy()):
            colour = "white" if abs(value) > 0.6 * most else "black"
            axis.text(x, y, f"{value:.2g}", ha="center", va="center", fontsize=7, color=colour)
        axis.set(title=title, xlabel=table.columns.name, ylabel=table.index.name)
        axis.set_xticks(range(table.shape[1]), table.columns, fontsize=7)
        axis.set_yticks(range(table.shape[0]), table.index, fontsize=7)
        axis.grid(False)
    figure.colorbar(shown, ax=axes[0].tolist(), label=label, shrink=0.8)
    return figure
