"""What each metric is: its meaning, its unit, which direction is better. The one table of them; a new one is added here.

It says nothing of how a metric is computed: that is for :mod:`topo_utils.evaluation` and the notebooks.
"""

from __future__ import annotations

from typing import NamedTuple

#: What tells the rows of one record from each other, beside the metrics: of which model, on which data set.
FACTORS = ("model", "data")
AGGREGATE = "_aggregate"


class Metric(NamedTuple):
    """A number that is measured of a model or of data."""

    meaning: str
    """In a few words. ``{n}`` stands for the number in which such a metric's name ends."""
    unit: str
    better: str | None
    """``"lower"``, ``"higher"``, or None where neither is."""


def _bottleneck(dimension: int) -> dict[str, Metric]:
    name, what = f"bottleneck_h{dimension}", f"bottleneck distance {{}}, H{dimension}"
    unit = "mean distances of training items"
    return {
        name: Metric(what.format("data-samples"), unit, "lower"),
        f"{name}_standard_error": Metric(what.format("data-samples, its standard error"), unit, None),
        f"{name}_floor": Metric(what.format("data-data, which a perfect sampler scores"), unit, None),
        f"{name}_floor_standard_error": Metric(what.format("data-data, its standard error"), unit, None),
    }


def _betti(suffix: str, connectivity: int) -> dict[str, Metric]:
    how = f", {connectivity}-connected masks"
    return {
        f"betti_accuracy{suffix}": Metric(f"masks with the wanted Betti number{how}", "share", "higher"),
        f"betti_precision{suffix}": Metric(f"precision, the mean over the wanted Betti numbers{how}", "share", "higher"),
        f"betti_recall{suffix}": Metric(f"recall, the mean over the wanted Betti numbers{how}", "share", "higher"),
        f"betti_f1{suffix}": Metric(f"F1, the mean over the wanted Betti numbers{how}", "share", "higher"),
        f"betti_mean_absolute_error{suffix}": Metric(f"error of the Betti number, absolute{how}", "bars", "lower"),
    }


def _told_apart(null: str) -> dict[str, Metric]:
    """Shares of draws in which a batch is told from a null; one half is chance."""
    measures = {"h0": "L_topo of H0", "h1": "L_topo of H1", "longest_loop": "the longest H1 bar"}
    return {
        f"{name}_{null.lower()}_n": Metric(f"batches of {{n}} told from {null} ones by {measure}", "share", None)
        for name, measure in measures.items()
    }


#: Every metric by its name. One whose name ends in ``_n`` and whose meaning has ``{n}`` is there for any number:
#: ``h0_gaussian_64``. With ``_aggregate`` at its end, a name stands for the same metric of samples whose codes are drawn
#: from a density fitted to the codes of the training items.
METRICS: dict[str, Metric] = {
    # a VAE
    "reconstruction_error": Metric("reconstruction error of an item, squared", "squared data units", "lower"),
    "reconstruction_nats": Metric("reconstruction term of an item", "nats", "lower"),
    "kl": Metric("KL to the prior", "nats", None),
    "active_units": Metric("active latent dimensions", "dimensions", None),
    "interpolation_cycle_error": Metric("cycle error on linear latent paths, squared", "squared data units", "lower"),
    "topological_h0": Metric("L_topo of the codes, scale-free, H0", "squared landscapes", "lower"),
    "topological_h1": Metric("L_topo of the codes, scale-free, H1", "squared landscapes", "lower"),
    # how hard the regulariser pulls
    "gradient_ratio": Metric("gradient of the regulariser over that of the rest, last epoch", "ratio", None),
    # a diffusion model
    "validation_noise": Metric("error of the predicted noise on validation data, squared", "noise variances", "lower"),
    # samples
    "frechet_classifier": Metric("Fréchet distance data-samples in the judge's features", "squared features", "lower"),
    "frechet_classifier_floor": Metric(
        "Fréchet distance data-data in the judge's features, which a perfect sampler scores", "squared features", None
    ),
    "frechet_classifier_n": Metric("items on each side of the Fréchet distances", "items", None),
    "confident_samples": Metric("samples the judge is at least 90 % sure of", "share", "higher"),
    **_bottleneck(0),
    **_bottleneck(1),
    "bottleneck_n": Metric("points in each cloud of the bottleneck distances", "points", None),
    # samples of one domain
    "valid": Metric("valid molecules among the samples, before any repair", "share", "higher"),
    "unique": Metric("different molecules among the valid", "share", "higher"),
    "novel": Metric("unknown molecules among the different", "share", "higher"),
    "bond_error": Metric("error of the distances of neighbouring Cα", "Å", "lower"),
    "nearest_rmsd": Metric("RMSD to the nearest training frame", "Å", None),
    "connected": Metric("connected graphs among the samples", "share", "higher"),
    "degree_distance": Metric("1-Wasserstein distance of degrees", "edges", "lower"),
    "clustering_distance": Metric("1-Wasserstein distance of clustering coefficients", "ratio", "lower"),
    "off_manifold": Metric("distance of samples from the manifold, mean", "data units", "lower"),
    **_betti("", 8),
    **_betti("_4", 4),
    # data in the features F
    "pool": Metric("items of which batches are drawn", "items", None),
    "unexplained_train": Metric("variance of training items that F does not reproduce", "share", "lower"),
    "unexplained_test": Metric("variance of test items that F does not reproduce", "share", "lower"),
    **_told_apart("Gaussian"),
    **_told_apart("shuffled"),
}


def metric(name: str) -> Metric:
    """The metric of this name, the number at its end put into its meaning.

    Raises
    ------
    ValueError
        There is none.
    """
    if name in METRICS:
        return METRICS[name]
    if name.endswith(AGGREGATE):
        own = metric(name.removesuffix(AGGREGATE))
        return own._replace(meaning=f"{own.meaning}, codes from the fitted density")
    stem, _, number = name.rpartition("_")
    family = METRICS.get(f"{stem}_n")
    if number.isdecimal() and family is not None and "{n}" in family.meaning:
        return family._replace(meaning=family.meaning.format(n=number))
    raise ValueError(f"name: wanted a metric that topo_utils/metrics.py has (a new one is added there), got {name!r}")


def described(name: str) -> str:
    """A metric in one line, for tables: its meaning, its unit, and which direction is better.

    Raises
    ------
    ValueError
        There is no metric of this name.
    """
    meaning, unit, better = metric(name)
    return f"{meaning} [{unit}]" + (f", {better} is better" if better else "")
