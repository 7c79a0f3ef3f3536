"""What a record says of itself, and what is noticed when it is not what was written."""

from __future__ import annotations

import json
import shutil

import pandas as pd
import pytest
import torch

from topo_utils import datasets, evaluation, paths, runs
from topo_utils.config import DiffusionConfig, VAEConfig
from topo_utils.models.features import initial_autoencoder
from topo_utils.runs import Record, RunError
from topo_utils.runs.record import seal_record, write_json
from topo_utils.training import fit

from .notebooks import write

ORIGIN = {"notebook": "small.ipynb", "code": "0" * 16, "resumed": False, "wall_seconds": 1.0}


def recorded(trained, features, parameters, metrics, data=()):
    """A record as a run would leave it, without the notebook."""
    from topo_utils.runs.parameters import record_name

    folder = paths.runs() / record_name("small", parameters)
    write_json(folder / "config.json", {"notebook": "small", "parameters": parameters})
    runs.save(folder, metrics, trained, features, data)
    seal_record(folder, ORIGIN)
    return folder


@pytest.fixture(scope="module")
def torus():
    return datasets.load("torus", "train", limit=130, seed=3), datasets.load("torus", "validation", limit=40)


COMMON = {"dataset": "torus", "epochs": 1, "batch_size": 32, "cloud_size": 16, "width": 8}


@pytest.fixture
def two(torus):
    """A plain model and a control in one record, as notebook 07 leaves them; its parameters are the control's."""
    F = initial_autoencoder(torus[0])
    control = DiffusionConfig(**COMMON, gamma_denoised=2.0, regularizer="gaussian", limit=130)
    plain = control.replace(gamma_denoised=0.0, regularizer="topological")
    trained = {each.model: fit(each, *torus, F, progress="none") for each in (plain, control)}
    parameters = {**control.model_dump(), "samples": 3}
    metrics = [{"model": name, "validation_noise": 1.5} for name in trained]
    return recorded(trained, F, parameters, metrics, [datasets.load("torus", "test", limit=20)]), trained, F


def test_a_record_gives_back_all_that_went_into_it(two, torus):
    path, trained, F = two
    record = Record(path)
    assert record.models == ("diffusion", "diffusion-gaussian")
    for name, each in trained.items():
        assert record.provenance["models"][name]["epoch_seconds"] == each.history["seconds"].median() > 0
        assert record.config(name) == each.specification.config
        model = record.model(name)
        assert not model.training
        assert torch.equal(evaluation.sample(model, 4), evaluation.sample(each.model, 4))
    assert torch.equal(record.features().features(torus[0].items), F.features(torus[0].items))
    for split, data in {"train": torus[0], "validation": torus[1]}.items():
        assert torch.equal(record.data(split).items, data.items)
    assert len(record.data("test")) == 20
    assert record.history["model"].tolist() == ["diffusion", "diffusion-gaussian"]
    with pytest.raises(RunError, match=r"wanted a model of .*, diffusion, diffusion-gaussian, got 'vae'"):
        record.model("vae")
    with pytest.raises(RunError, match="split: wanted one that the run used once, got 'judge'"):
        record.data("judge")


def test_to_read_a_model_draws_no_random_number(two):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    Record(two[0]).model("diffusion")
    assert torch.equal(before, torch.get_rng_state())


def test_each_row_has_the_configuration_and_the_origin_of_its_own_model(two, torus):
    table = runs.collect().set_index("model")
    assert table["regularizer"].to_dict() == {"diffusion": "topological", "diffusion-gaussian": "gaussian"}
    assert table["gamma_denoised"].to_dict() == {"diffusion": 0.0, "diffusion-gaussian": 2.0}
    assert set(table["family"]) == {"diffusion"}
    assert set(table["item_shape"]) == {"3"}
    assert set(table["train_items"]) == {130}
    assert set(table["train_digest"]) == {torus[0].digest}
    assert set(table["code"]) == {ORIGIN["code"]}
    assert table["features_digest"].str.len().tolist() == [16, 16]
    assert table["samples"].tolist() == [3, 3]


@pytest.mark.parametrize(
    ("config", "options"),
    [
        (VAEConfig(dataset="nci", latent_dimension=3, width=4, epochs=1, batch_size=16, cloud_size=8), {}),
        (
            DiffusionConfig(
                dataset="masks-28", condition="holes", betti_dimension=1, width=8, epochs=1, batch_size=16, cloud_size=8
            ),
            {"condition": torch.arange(4)},
        ),
    ],
    ids=["molecules", "conditional masks"],
)
def test_models_of_other_domains_come_back(config, options):
    train, validation = (datasets.load(config.dataset, split, limit=48) for split in ("train", "validation"))
    from topo_utils.models.features import Identity

    trained = {"it": fit(config, train, validation, Identity(), progress="none")}
    path = recorded(trained, None, config.model_dump(), [{"model": "it", "kl": 1.0}])
    again = Record(path).model("it")
    assert torch.equal(evaluation.sample(again, 4, **options), evaluation.sample(trained["it"].model, 4, **options))
    with pytest.raises(RunError, match="keeps no F"):
        Record(path).features()


def test_one_s_own_data_are_not_to_be_had_from_a_record(torus):
    mine = datasets.from_tensors(torus[0].items, "points", name="mine")
    other = datasets.from_tensors(torus[1].items, "points", name="mine", split="validation")
    config = VAEConfig(**{**COMMON, "dataset": None}, latent_dimension=2)
    path = recorded({"vae": fit(config, mine, other, initial_autoencoder(mine), progress="none")}, None, {}, [])
    with pytest.raises(RunError, match="'mine' is one's own data"):
        Record(path).data("train")


def damage_a_bit(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGES = {
    "a bit of the weights": lambda path: damage_a_bit(path / "diffusion.safetensors"),
    "a bit of F": lambda path: damage_a_bit(path / "features.safetensors"),
    "no history": lambda path: (path / "history.csv").unlink(),
    "no weights": lambda path: (path / "diffusion.safetensors").unlink(),
    "truncated metrics": lambda path: (path / "metrics.json").write_text("[{"),
    "metrics null": lambda path: (path / "metrics.json").write_text("[null]"),
    "no rows": lambda path: (path / "metrics.json").write_text("[]"),
    "NaN": lambda path: (path / "metrics.json").write_text('[{"model": "diffusion", "validation_noise": NaN}]'),
    "other parameters": lambda path: (path / "config.json").write_text(
        (path / "config.json").read_text().replace('"seed": 0', '"seed": 1')
    ),
    "other origin": lambda path: (path / "provenance.json").write_text(
        (path / "provenance.json").read_text().replace('"items": 130', '"items": 131')
    ),
    "empty provenance": lambda path: (path / "provenance.json").write_text("{}"),
    "a list": lambda path: (path / "provenance.json").write_text("[]"),
    "a folder": lambda path: ((path / "metrics.json").unlink(), (path / "metrics.json").mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_not_as_it_was_written_is_named_and_left_out(two, damage, quick):
    path = two[0]
    whole = runs.execute(quick)
    DAMAGES[damage](path)
    with pytest.raises(RunError, match="is no whole record of a run"):
        Record(path)
    with pytest.warns(UserWarning, match=path.name):
        table = runs.collect()
    assert table["run"].tolist() == [whole.name]


@pytest.mark.parametrize("how", [shutil.copytree, lambda path, copy: copy.symlink_to(path), shutil.move])
def test_a_copy_a_link_or_another_name_does_not_count(two, how):
    path = two[0]
    rows = len(runs.collect())
    how(path, path.with_name("copy-of-it"))
    with pytest.warns(UserWarning, match="copy-of-it"):
        table = runs.collect()
    assert len(table) == (rows if path.exists() else 0)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({}, "wanted a list of rows, got dict"),
        ([None], "wanted rows with a name under 'model', got None"),
        ([{"kl": 1.0}], "wanted rows with a name under 'model'"),
        ([{"model": "a"}], "wanted at least one metric of 'a', got an empty row"),
        ([{"model": "a", "kl": float("nan")}], "wanted a finite number for 'kl' of 'a', got nan"),
        ([{"model": "a", "kl": "low"}], "wanted a finite number for 'kl' of 'a', got 'low'"),
        ([{"model": "a", "kl": True}], "wanted a finite number for 'kl' of 'a', got True"),
        ([{"model": "a", "no_such_metric": 1.0}], "no_such_metric"),
        ([{"model": "a", "kl": 1.0}, {"model": "a", "kl": 2.0}], "wanted one row a model, got 2 rows for 1"),
    ],
)
def test_rows_that_mean_nothing_are_not_written(rows, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        runs.save(tmp_path, rows)
    assert not list(tmp_path.iterdir())


def test_weights_that_are_not_finite_are_not_written(two, tmp_path):
    _, trained, F = two
    next(trained["diffusion"].model.parameters()).data.view(-1)[0] = torch.nan
    with pytest.raises(ValueError, match=r"diffusion\.safetensors: wanted finite values"):
        runs.save(tmp_path, [{"model": "diffusion", "kl": 1.0}], trained, F)
    assert not (tmp_path / "metrics.json").exists()


def test_a_table_shows_every_metric():
    shown = runs.table([{"model": "a", "kl": 1.0, "topological_h0": 2.0}, {"model": "b", "kl": 3.0}])
    assert shown.shape == (2, 2)
    assert shown["a"].tolist() == [1.0, 2.0]
    assert shown["b"].iloc[0] == 3.0
    assert pd.isna(shown["b"].iloc[1])


def test_the_name_of_a_record_is_known_before_it_is_made(quick):
    name = runs.name_of(quick, {"n": 3})
    assert not paths.runs().exists()
    assert runs.execute(quick, {"n": 3}).name == name
    assert runs.name_of(quick, {"n": 4}) != name


def test_an_interrupted_run_of_other_parameters_is_not_gone_on_with(quick, capsys):
    """Should two digests ever agree, the parameters decide."""
    name = runs.name_of(quick, {})
    write(quick, "n: int = 1\nname: str = 'x'\nsize = None", "raise SystemError('late')")
    with pytest.raises(RunError, match="late"):
        runs.execute(quick)
    partial = paths.runs() / f"{name}.partial"
    config = json.loads((partial / "config.json").read_text())
    config["parameters"]["n"] = 2
    (partial / "config.json").write_text(json.dumps(config))
    capsys.readouterr()
    with pytest.raises(RunError, match="late"):
        runs.execute(quick)
    assert "going on" not in capsys.readouterr().out
    with pytest.raises(RunError, match="late"):
        runs.execute(quick)
    assert "going on" in capsys.readouterr().out
