"""What each metric is: its meaning, its unit, which direction is better. The one table of them; a new one is added here.

It says nothing of how a metric is computed: that is for :mod:`topo_utils.evaluation` and the notebooks.
"""

from __future__ import annotations

from typing import NamedTuple

#: What tells the rows of one record from each other, beside the metrics: of which model, on which data set.
FACTORS = ("model", "data")
AGGREGATE = "_aggregate"
INTERVAL = {"low": "lower", "high": "upper"}


class Metric(NamedTuple):
    """A number that is measured of a model or of data."""

    meaning: str
    """In a few words. ``{n}`` stands for the number in which such a metric's name ends."""
    unit: str
    better: str | None
    """``"lower"``, ``"higher"``, or None where neither is."""


def _with_error(name: str, what: str, unit: str, better: str | None) -> dict[str, Metric]:
    """A mean over draws, its floor, and the standard error of both."""
    return {
        name: Metric(what.format("data-samples"), unit, better),
        f"{name}_standard_error": Metric(what.format("data-samples, its standard error"), unit, None),
        f"{name}_floor": Metric(what.format("data-data, which a perfect sampler scores"), unit, None),
        f"{name}_floor_standard_error": Metric(what.format("data-data, its standard error"), unit, None),
    }


def _diagrams(dimension: int) -> dict[str, Metric]:
    names = {"bottleneck": "bottleneck", "wasserstein1": "1-Wasserstein", "wasserstein2": "2-Wasserstein"}
    unit, metrics = "mean distances of training items", {}
    for name, title in names.items():
        metrics |= _with_error(f"{name}_h{dimension}", f"{title} distance {{}}, H{dimension}", unit, "lower")
    graph = f"sliced Wasserstein distance of the diagrams of whole neighbour graphs {{}}, H{dimension}"
    metrics |= _with_error(f"graph_h{dimension}", graph, "feature distances a point", "lower")
    energy = f"energy distance of landscapes {{}}, H{dimension}"
    return metrics | _with_error(f"landscape_energy_h{dimension}", energy, "squared landscapes", "lower")


def _fidelity(network: str, title: str) -> dict[str, Metric]:
    name, what = ("fid", "FID") if network == "inception" else (f"frechet_{network}", "Fréchet distance")
    metrics = {
        name: Metric(f"{what} data-samples in {title}", "squared features", "lower"),
        f"{name}_floor": Metric(f"{what} data-data in {title}, which a perfect sampler scores", "squared features", None),
        f"{name}_floor_spread": Metric(f"{what} data-data in {title}, its standard deviation", "squared features", None),
        f"{name}_n": Metric(f"items on each side of the {what}s", "items", None),
    }
    metrics |= _with_error(f"kid_{network}", f"kernel distance {{}} in {title}, squared", "squared kernel", "lower")
    shares = {
        "precision": "share of samples among the data",
        "recall": "share of the data among samples",
        "density": "data around a sample",
        "coverage": "share of the data with a sample beside",
    }
    for share, meaning in shares.items():
        metrics[f"{share}_{network}"] = Metric(f"{share}, {meaning}, in {title}", "share", "higher")
        metrics[f"{share}_{network}_floor"] = Metric(f"{share} of data, in {title}", "share", None)
    return metrics


def _betti(suffix: str, connectivity: int) -> dict[str, Metric]:
    how = f", {connectivity}-connected masks"
    return {
        f"betti_accuracy{suffix}": Metric(f"masks with the wanted Betti number{how}", "share", "higher"),
        f"betti_precision{suffix}": Metric(f"precision, the mean over the wanted Betti numbers{how}", "share", "higher"),
        f"betti_recall{suffix}": Metric(f"recall, the mean over the wanted Betti numbers{how}", "share", "higher"),
        f"betti_f1{suffix}": Metric(f"F1, the mean over the wanted Betti numbers{how}", "share", "higher"),
        f"betti_mean_absolute_error{suffix}": Metric(f"error of the Betti number, absolute{how}", "bars", "lower"),
    }


def _paths(kind: str) -> dict[str, Metric]:
    on = f"{kind} latent paths"
    return {
        f"iqi_{kind}": Metric(f"cycle error on {on} over the reconstruction error", "ratio", "lower"),
        f"path_{kind}_nearest": Metric(
            f"distance from {on} to the nearest training item in the judge's features, that of test items = 1",
            "ratio",
            "lower",
        ),
        f"path_{kind}_off_manifold": Metric(f"distance of {on} from the manifold", "data units", "lower"),
        f"path_{kind}_topological": Metric(
            f"L_topo of clouds across {on} to the mean landscape of real ones", "squared landscapes", "lower"
        ),
    }


def _attacks() -> dict[str, Metric]:
    """Shares of attacked items; the number at the end is ε, in percent of what is named."""
    success = "items whose class a latent attack flips, ε = {{n}} % of {}"
    apart = "the codes' distance between classes"
    return {
        "pgd_n": Metric(success.format(apart), "share", "lower"),
        "pgd_area": Metric(f"the same, the mean over ε from 0 to 40 % of {apart}", "share", "lower"),
        "pgd_random_n": Metric(f"items whose class a random direction flips, ε = {{n}} % of {apart}", "share", "lower"),
        "pgd_second_n": Metric(success.format(apart) + ", for a second judge, too", "share", "lower"),
        "pgd_prior_n": Metric(success.format("a prior standard deviation"), "share", "lower"),
        "pgd_moved_n": Metric(success.format("F's unit that a random direction moves the item"), "share", "lower"),
        "pgd_kept": Metric("items that are attacked: the judge knows them from their codes", "share", None),
        "displaced_n": Metric("items that a latent attack moves beyond their neighbours, ε = {n} %", "share", "lower"),
        "displaced_random_n": Metric("items that a random direction moves beyond them, ε = {n} %", "share", "lower"),
        "displaced_area": Metric("items moved beyond their neighbours, mean over ε from 0 to 40 %", "share", "lower"),
        "encoder_attack_n": Metric(
            "reconstructions of another class, attack on the encoder, ε = {n} % of the items' distance between classes",
            "share",
            "lower",
        ),
        "encoder_attack_kl_n": Metric("symmetric KL that an attack on the encoder reaches, ε = {n} %", "nats", "lower"),
    }


def _ood() -> dict[str, Metric]:
    """How well scores tell items that are out of distribution from test items."""
    scores = {
        "knn": "distance to the 10 nearest training codes",
        "mahalanobis": "Mahalanobis distance of the code",
        "prior": "-log p(z) of the code",
        "elbo": "-ELBO without the item's own entropy",
        "features_knn": "distance to the 10 nearest training items in F",
        "features_mahalanobis": "Mahalanobis distance in F",
    }
    measures = {
        "auroc": ("AUROC", "area", "higher"),
        "aupr_out": ("average precision, outliers found", "area", "higher"),
        "aupr_in": ("average precision, test items found", "area", "higher"),
        "fpr95": ("outliers let through where 95 % of validation items are", "share", "lower"),
    }
    return {
        f"ood_{measure}_{score}_set": Metric(f"{what}, {{set}} by {by}", unit, better)
        for measure, (what, unit, better) in measures.items()
        for score, by in scores.items()
    }


def _factors() -> dict[str, Metric]:
    meaning = "factor of γ ({}) by which a control pulls as L_topo would, mean over the epochs"
    compared = ("latent", "reconstruction", "generated", "sample", "denoised")
    return {f"factor_{name}": Metric(meaning.format(name), "ratio", None) for name in compared}


def _told_apart(null: str) -> dict[str, Metric]:
    """Shares of draws in which a batch is told from a null; one half is chance."""
    measures = {"h0": "L_topo of H0", "h1": "L_topo of H1", "longest_loop": "the longest H1 bar"}
    return {
        f"{name}_{null.lower()}_n": Metric(f"batches of {{n}} told from {null} ones by {measure}", "share", None)
        for name, measure in measures.items()
    }


#: Every metric by its name. One whose name ends in ``_n`` and whose meaning has ``{n}`` is there for any number:
#: ``h0_gaussian_64``; one in ``_set`` with ``{set}`` for any set of items: ``ood_auroc_knn_rotated``.
#: With ``_aggregate`` at its end, a name stands for the same metric of samples whose codes are drawn from a density fitted
#: to the codes of the training items; with ``_low`` or ``_high``, for an end of its interval.
METRICS: dict[str, Metric] = {
    # a VAE
    "reconstruction_error": Metric("reconstruction error of an item, squared", "squared data units", "lower"),
    "reconstruction_nats": Metric("reconstruction term of an item", "nats", "lower"),
    "kl": Metric("KL to the prior", "nats", None),
    "active_units": Metric("active latent dimensions", "dimensions", None),
    "interpolation_cycle_error": Metric("cycle error on linear latent paths, squared", "squared data units", "lower"),
    "knn_accuracy": Metric("test items whose class the 10 nearest training codes have", "share", "higher"),
    "trustworthiness": Metric("trustworthiness of the codes", "share", "higher"),
    "continuity": Metric("continuity of the codes", "share", "higher"),
    "mrre_data": Metric("relative rank error of neighbours in the data", "ratio", "lower"),
    "mrre_latent": Metric("relative rank error of neighbours among the codes", "ratio", "lower"),
    "density_kl_n": Metric("KL of the data's density from that of the codes, σ = {n} %", "nats", "lower"),
    **_paths("linear"),
    **_paths("geodesic"),
    "path_length_ratio": Metric("length of geodesic latent paths over that of linear ones, decoded", "ratio", None),
    "path_topological_floor": Metric("L_topo of real clouds to their mean landscape", "squared landscapes", None),
    **_attacks(),
    **_ood(),
    "ood_off_manifold_set": Metric("distance of the outliers {set} from the manifold, mean", "data units", None),
    "topological_h0": Metric("L_topo of the codes, scale-free, H0", "squared landscapes", "lower"),
    "topological_h1": Metric("L_topo of the codes, scale-free, H1", "squared landscapes", "lower"),
    # how hard the regulariser pulls
    "gradient_ratio": Metric("gradient of the regulariser over that of the rest, last epoch", "ratio", None),
    **_factors(),
    # a diffusion model
    "validation_noise": Metric("error of the predicted noise on validation data, squared", "noise variances", "lower"),
    # samples
    **_fidelity("classifier", "the judge's features"),
    **_fidelity("inception", "the features of Inception-v3"),
    "confident_samples": Metric("samples the judge is at least 90 % sure of", "share", "higher"),
    **_diagrams(0),
    **_diagrams(1),
    "graph_n": Metric("points in each of the neighbour graphs", "points", None),
    "bottleneck_n": Metric("points in each cloud of the diagram distances", "points", None),
    # samples of one domain
    "valid": Metric("valid molecules among the samples, before any repair", "share", "higher"),
    "unique": Metric("different molecules among the valid", "share", "higher"),
    "novel": Metric("unknown molecules among the different", "share", "higher"),
    "ring_distance": Metric("1-Wasserstein distance of the numbers of rings", "rings", "lower"),
    "bond_violations": Metric("distances of neighbouring Cα outside of their range in training frames", "share", "lower"),
    "clashes": Metric("pairs of Cα nearer than 3 Å in a sample", "pairs", "lower"),
    "bond_error": Metric("error of the distances of neighbouring Cα", "Å", "lower"),
    "nearest_rmsd": Metric("RMSD to the nearest training frame", "Å", None),
    "connected": Metric("connected graphs among the samples", "share", "higher"),
    "degree_distance": Metric("1-Wasserstein distance of degrees", "edges", "lower"),
    "clustering_distance": Metric("1-Wasserstein distance of clustering coefficients", "ratio", "lower"),
    **_with_error("mmd_degree", "MMD {} of degrees, squared", "squared kernel", "lower"),
    **_with_error("mmd_clustering", "MMD {} of clustering coefficients, squared", "squared kernel", "lower"),
    **_with_error("mmd_orbit", "MMD {} of places in small subgraphs, squared", "squared kernel", "lower"),
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
    if number in INTERVAL:
        own = metric(stem)
        return own._replace(meaning=f"{own.meaning}, {INTERVAL[number]} end of its 95 % interval over items", better=None)
    family = METRICS.get(f"{stem}_n")
    if number.isdecimal() and family is not None and "{n}" in family.meaning:
        return family._replace(meaning=family.meaning.format(n=number))
    for stem in sorted(METRICS, key=len, reverse=True):  # the longest name that fits
        prefix = stem.removesuffix("set")
        if "{set}" in METRICS[stem].meaning and name.startswith(prefix) and name != prefix:
            return METRICS[stem]._replace(meaning=METRICS[stem].meaning.format(set=name.removeprefix(prefix)))
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
