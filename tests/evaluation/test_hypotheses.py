"""Predictions as a file, and what a table of runs says of them."""

from __future__ import annotations

import pandas as pd
import pytest
import yaml

from topo_utils import paths
from topo_utils.config import ConfigError
from topo_utils.evaluation.hypotheses import judged, read_hypotheses, score
from topo_utils.evaluation.statistics import ZeroBaselineError, holm

ERROR = {"name": "error", "says": "…", "metrics": {"default": ["reconstruction_error"]}, "claim": "better", "worth": 0.1}
QUALITY = {
    "name": "quality",
    "says": "…",
    "metrics": {"digits": ["frechet_classifier"]},
    "claim": "not-worse",
    "worth": 0.1,
}
AREA = {
    "name": "area",
    "says": "…",
    "metrics": {"default": ["ood_auroc_knn_off"]},
    "claim": "better",
    "relative": False,
    "worth": 0.05,
}


def written(tmp_path, *predictions, **changes):
    content = {
        "model": "topovae",
        "baselines": ["vae", "vae-weak-kl"],
        "alpha": 0.05,
        "predictions": list(predictions),
        **changes,
    }
    file = tmp_path / "hypotheses.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def rows(dataset="torus", seeds=10, **metrics):
    """For each seed a row of the VAE and one of the TopoVAE; metrics are pairs of functions of the seed."""
    sides = enumerate(("vae", "topovae"))
    return pd.DataFrame(
        {"dataset": dataset, "seed": seed, "model": model, **{name: both[side](seed) for name, both in metrics.items()}}
        for side, model in sides
        for seed in range(seeds)
    )


def test_the_committed_hypotheses_are_in_order():
    found = read_hypotheses(paths.NOTEBOOKS / "params" / "hypotheses.yaml")
    assert [each.name for each in found.predictions] == ["paths", "samples", "diagrams", "outliers", "attacks"]
    proposed = set(found.predictions[3].of("digits"))
    assert proposed == {"ood_auroc_knn_held-out", "ood_auroc_knn_rotated"}
    assert set(found.predictions[3].of("digits").values()) == {"higher"}


def test_each_prediction_is_judged_on_each_data_set_that_it_speaks_of(tmp_path):
    hypotheses = read_hypotheses(written(tmp_path, ERROR, QUALITY, AREA))
    errors = (lambda s: 10 + s, lambda s: 9 + s)
    torus = rows(reconstruction_error=errors, ood_auroc_knn_off=(lambda s: 0.7, lambda s: 0.6 - s / 100))
    digits = rows(
        "digits",
        reconstruction_error=errors[::-1],
        frechet_classifier=(lambda s: 100 + s, lambda s: 101 + s),
        ood_auroc_knn_off=(lambda s: 0.7 + s / 1000, lambda s: 0.7 + (9 - s) / 1000),
    )
    found = judged(pd.concat([torus, digits]).sample(frac=1, random_state=0), hypotheses)
    assert list(zip(found["dataset"], found["prediction"], strict=True)) == [
        ("digits", "error"),
        ("digits", "quality"),
        ("digits", "area"),
        ("torus", "error"),
        ("torus", "area"),
    ]
    assert found["verdict"].tolist() == ["refuted", "confirmed", "refuted", "confirmed", "refuted"]
    assert found["adjusted"].tolist() == pytest.approx(holm(found["p"]))
    assert found["p"].tolist()[3] == 2 / 1024
    last = found.iloc[3]
    assert (last["baseline"], last["model"], last["seeds"]) == (14.5, 13.5, 10)
    assert last["difference"] == pytest.approx(-1 / 14.5)
    assert found.iloc[4]["difference"] == pytest.approx(0.1 + 0.045)  # an area that falls is a loss
    assert found.iloc[1]["metrics"] == "frechet_classifier"


def test_a_control_takes_the_place_of_the_baseline(tmp_path):
    hypotheses = read_hypotheses(written(tmp_path, ERROR))
    table = rows(reconstruction_error=(lambda s: 10 + s, lambda s: 9 + s)).replace({"vae": "vae-distances"})
    assert judged(table, hypotheses).empty
    assert judged(table, hypotheses, "vae-distances")["verdict"].tolist() == ["confirmed"]
    assert judged(table.replace({"vae-distances": "vae-weak-kl"}), hypotheses)["verdict"].tolist() == ["confirmed"]


def test_one_seed_is_no_comparison(tmp_path):
    hypotheses = read_hypotheses(written(tmp_path, ERROR))
    assert judged(rows(seeds=1, reconstruction_error=(float, float)), hypotheses).empty


def test_parts_of_a_baseline_of_zero_are_not_decided_and_spare_the_rest(tmp_path):
    hypotheses = read_hypotheses(written(tmp_path, ERROR, AREA))
    halved = {"ood_auroc_knn_off": (lambda s: 0.5 + 0.01 * s, lambda s: 0.8 + 0.01 * s)}
    found = judged(rows(reconstruction_error=(lambda s: 0.0, lambda s: 1.0 + s), **halved), hypotheses)
    assert found["verdict"].tolist() == ["not decided", "confirmed"]
    assert found["seeds"].tolist() == [10, 10]
    assert found["p"].tolist() == [1.0, pytest.approx(2 / 2**10)]
    assert found["difference"].isna().tolist() == [True, False]


def test_a_changed_record_changes_the_table(tmp_path):
    hypotheses = read_hypotheses(written(tmp_path, ERROR))
    table = rows(reconstruction_error=(lambda s: 10 + s, lambda s: 9 + s))
    before = judged(table, hypotheses)
    table.loc[13, "reconstruction_error"] += 1
    after = judged(table, hypotheses)
    assert (before[["model", "difference", "p"]] != after[["model", "difference", "p"]]).all(axis=None)


def test_a_record_without_the_metric_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="wanted the metric 'reconstruction_error'"):
        judged(rows(kl=(float, float)), read_hypotheses(written(tmp_path, ERROR)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": 5}, "alpha"),
        ({"predictions": []}, "predictions"),
        ({"predictions": [ERROR, ERROR]}, "'error' is there twice"),
        ({"predictions": [ERROR | {"worth": 0}]}, "worth"),
        ({"predictions": [ERROR | {"claim": "best"}]}, "claim"),
        ({"predictions": [ERROR | {"metrics": {"default": ["bogus"]}}]}, "'error': name: wanted a metric"),
        ({"predictions": [ERROR | {"metrics": {"default": ["kl"]}}]}, "'kl' has no better direction"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_bad_hypotheses_are_named(change, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        read_hypotheses(written(tmp_path, ERROR, **change))


def test_a_file_that_is_none_is_named(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_hypotheses(tmp_path / "no.yaml")
    (tmp_path / "list.yaml").write_text("[1]")
    with pytest.raises(ConfigError, match="wanted the fields"):
        read_hypotheses(tmp_path / "list.yaml")


def test_a_score_is_in_units_of_what_is_worth_having(tmp_path):
    two = {**ERROR, "name": "two", "metrics": {"default": ["off_manifold", "bottleneck_h0"]}, "worth": 0.5}
    hypotheses = read_hypotheses(written(tmp_path, ERROR, AREA, two, QUALITY))
    trials = pd.DataFrame(
        {
            "dataset": "torus",
            "reconstruction_error": [2.0, 1.0],  # by half better: five times what is worth having
            "ood_auroc_knn_off": [0.6, 0.7],  # twice
            "off_manifold": [1.0, 2.0],  # by as much worse: twice, of one metric of two
            "bottleneck_h0": [4.0, 4.0],
        }
    )
    found = score(trials, trials.iloc[0], hypotheses)
    assert found.tolist() == pytest.approx([0.0, (-5 - 2 + 1) / 3])
    with pytest.raises(ValueError, match="wanted rows of 'torus'"):
        score(trials.assign(dataset="digits"), trials.iloc[0], hypotheses)
    for broken in (trials.drop(columns="off_manifold"), trials.assign(bottleneck_h0=[1.0, float("nan")])):
        with pytest.raises(ValueError, match="wanted finite values"):
            score(broken, trials.iloc[0], hypotheses)
    with pytest.raises(ZeroBaselineError, match="not zero"):
        score(trials, trials.iloc[0].replace({2.0: 0.0}), hypotheses)
    with pytest.raises(ValueError, match="a prediction of 'torus'"):
        score(trials, trials.iloc[0], read_hypotheses(written(tmp_path, QUALITY)))
