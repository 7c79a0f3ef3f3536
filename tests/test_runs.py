from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import torch

from topo_utils import evaluation, paths, runs
from topo_utils.config import ConfigError, DiffusionConfig, VAEConfig
from topo_utils.runs import RunError
from topo_utils.training import untrained

PARAMETERS = """\
dataset: str = "digits"
seed: int = 0
gamma_latent: float = 0.0
epochs: int = 2
batch_size: int = 64
"""
TRAINING = """\
from topo_utils import evaluation, runs
from topo_utils.config import VAEConfig
from topo_utils.datasets import load
from topo_utils.models.features import initial_autoencoder
from topo_utils.training import fit

config = VAEConfig(dataset=dataset, seed=seed, gamma_latent=gamma_latent, epochs=epochs,
    batch_size=batch_size, latent_dimension=4)
train, validation = load(dataset, "train", limit=300), load(dataset, "validation", limit=100)
F = initial_autoencoder(train, epochs=1)
folder = runs.folder()
model, history = fit(config, train, validation, F, folder / "vae", progress=runs.progress())
metrics = [{"model": "vae", **evaluation.reconstruction(model, validation.items)}]
runs.save(folder, metrics, {"vae": history}, {"vae": model})
"""


def write(path, *sources):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(notebook, path)
    return path


@pytest.fixture
def notebook(tmp_path):
    """A small training notebook."""
    return write(tmp_path / "small.ipynb", PARAMETERS, TRAINING)


QUICK = (
    "n: int = 1  # a number\nname: str = 'x'\nsize = None",
    """\
import json, os, pathlib

rows = [{"model": "vae", "kl": n * 0.5}]
pathlib.Path(os.environ["TOPO_RUN_FOLDER"], "metrics.json").write_text(json.dumps(rows))
""",
)


@pytest.fixture
def quick(tmp_path):
    """A notebook that only writes one row, without importing anything that is slow to import."""
    return write(tmp_path / "quick.ipynb", *QUICK)


def test_a_run_leaves_a_whole_record(notebook):
    record = runs.execute(notebook, {"epochs": 1, "seed": 3})
    assert record.parent == paths.runs()
    assert record.name.startswith("digits-small-seed3-")
    names = {file.name for file in record.iterdir() if file.is_file()}
    wanted = {"notebook.ipynb", "config.json", "history.csv", "metrics.json", "vae.safetensors", "provenance.json"}
    assert names == wanted
    assert (record / "vae.safetensors").stat().st_mode & 0o444 == 0o444
    assert not list(record.rglob("*.ckpt"))
    assert json.loads((record / "config.json").read_text())["parameters"] == {
        "dataset": "digits", "seed": 3, "gamma_latent": 0.0, "epochs": 1, "batch_size": 64,
    }  # fmt: skip
    assert pd.read_csv(record / "history.csv")[["model", "epoch"]].to_numpy().tolist() == [["vae", 0]]
    origin = json.loads((record / "provenance.json").read_text())
    assert (
        origin["packages"]["torch"] == torch.__version__.split("+")[0] or origin["packages"]["torch"] == torch.__version__
    )
    assert {"git_commit", "git_dirty", "device", "threads", "cores", "wall_seconds", "code"} <= set(origin)
    assert [path.name for path in paths.runs().iterdir() if not path.name.startswith(".")] == [record.name]


def test_the_same_seed_gives_byte_identical_metrics(notebook, monkeypatch, tmp_path):
    contents = []
    for home in ("one", "two"):
        monkeypatch.setenv("TOPO_HOME", str(tmp_path / home))
        contents.append((runs.execute(notebook, {"epochs": 1, "gamma_latent": 1.0}) / "metrics.json").read_bytes())
    assert contents[0] == contents[1]


HELD = """\
import os, pathlib, time
import torch

step = torch.optim.Adam.step

def held(*arguments, **options):
    if "HELD" in os.environ and pathlib.Path(os.environ["TOPO_RUN_FOLDER"], "vae", "checkpoint.ckpt").exists():
        pathlib.Path(os.environ["HELD"]).touch()
        time.sleep(10**6)
    return step(*arguments, **options)

torch.optim.Adam.step = held
"""


def test_a_killed_run_is_not_counted_and_goes_on_when_started_again(monkeypatch, tmp_path, capfd):
    """It waits in its second epoch to be killed; its kernel does nothing more, and ends when it sees that it is alone."""
    notebook = write(tmp_path / "small.ipynb", PARAMETERS, HELD, TRAINING)
    given = {"epochs": 3, "gamma_latent": 1.0}
    uninterrupted = (runs.execute(notebook, given) / "metrics.json").read_bytes()
    monkeypatch.setenv("TOPO_HOME", str(tmp_path / "killed"))
    command = [sys.executable, "-m", "topo_utils.runs", str(notebook), "-p", "epochs=3", "-p", "gamma_latent=1.0"]
    environment = {**os.environ, "HELD": str(tmp_path / "held")}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True, env=environment)
    while not (tmp_path / "held").exists():
        assert process.poll() is None, "the run ended too early"
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert len(runs.collect()) == 0
    (partial,) = paths.runs().glob("*.partial")
    assert not (partial / "metrics.json").exists()
    capfd.readouterr()
    record = runs.execute(notebook, given)
    assert "going on with the interrupted run" in capfd.readouterr().out
    assert (record / "metrics.json").read_bytes() == uninterrupted
    assert runs.collect()["epochs"].tolist() == [3]
    assert runs.collect()["wall_seconds"].isna().all()  # only its last leg was timed
    assert not partial.exists()


def test_what_other_code_left_unfinished_is_not_taken_up(quick, capsys):
    write(quick, QUICK[0], "raise SystemError('late')")
    with pytest.raises(RunError, match="late"):
        runs.execute(quick)
    write(quick, *QUICK)
    runs.execute(quick)
    assert "going on" not in capsys.readouterr().out


def test_a_failed_run_keeps_its_notebook_and_is_not_counted(tmp_path, capsys):
    failing = write(tmp_path / "failing.ipynb", "n: int = 1", "print('so far')\nraise ValueError('the cause')")
    assert runs.main([str(failing)]) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: failing.ipynb, cell [2]: ValueError: the cause")
    (kept,) = paths.runs().glob("*.partial/notebook.ipynb")
    assert str(kept) in message
    assert "so far" in kept.read_text()
    assert len(runs.collect()) == 0


def test_a_new_record_replaces_the_old_one_only_when_it_is_whole(quick, monkeypatch):
    record = runs.execute(quick)
    before = (record / "metrics.json").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(runs, "_finish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            runs.execute(quick)
    assert (record / "metrics.json").read_bytes() == before
    assert len(runs.collect()) == 1
    assert runs.execute(quick) == record
    assert [path.name for path in paths.runs().iterdir() if path.is_dir()] == [record.name]


def test_a_promotion_that_was_killed_half_way_is_undone(quick):
    record = runs.execute(quick)
    record.rename(record.with_name(record.name + ".retired"))
    runs._recover(record)
    assert len(runs.collect()) == 1


def test_a_place_that_cannot_be_written_is_named(quick, monkeypatch, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TOPO_HOME", str(tmp_path / "file"))
    assert runs.main([str(quick)]) == 1
    assert "the record cannot be written" in capsys.readouterr().err


def test_the_same_run_twice_at_once_is_refused(quick):
    import filelock

    name = runs.execute(quick).name
    with (
        filelock.FileLock(paths.runs() / f".{name}.lock"),
        pytest.raises(RunError, match="under way in another process"),
    ):
        runs.execute(quick)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["-p", "gama=1.0"],
            "unknown parameter 'gama'; the known ones are dataset, seed, gamma_latent, epochs, batch_size",
        ),
        (["-p", "gamma_latent=high"], "parameter 'gamma_latent': wanted a valid number, got 'high'"),
        (["-p", "batch_size=0"], "parameter 'batch_size': wanted greater than or equal to 2, got 0"),
        (["-p", "gamma_latent"], "-p: wanted NAME=VALUE, got 'gamma_latent'"),
        (["-p", "gamma_latent=[1"], "-p gamma_latent: '[1' is not a YAML value"),
        (["-f", "nowhere.yaml"], "the parameter file 'nowhere.yaml' cannot be read: No such file or directory"),
    ],
)
def test_wrong_parameters_stop_before_anything_starts(notebook, arguments, message, capsys):
    assert runs.main([str(notebook), *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert message in printed.err
    assert len(printed.err.strip().splitlines()) == 1
    assert not paths.runs().exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("gamma_latent: high", "wanted a valid number"),
        ("- 1\n- 2", "wanted lines 'name: value'"),
        ("a: [1", "is not YAML"),
        ("learning_rate: 1.0", "unknown parameter"),
    ],
)
def test_wrong_parameter_files_are_named(notebook, tmp_path, content, message, capsys):
    file = tmp_path / "parameters.yaml"
    file.write_text(content)
    assert runs.main([str(notebook), "-f", str(file)]) == 2
    assert message in capsys.readouterr().err
    assert not paths.runs().exists()


def test_parameters_of_the_command_line_go_before_those_of_the_file(quick, tmp_path, capsys):
    file = tmp_path / "parameters.yaml"
    file.write_text("n: 5\nname: from file")
    assert runs.main([str(quick), "-f", str(file), "-p", "n=7"]) == 0
    row = runs.collect().iloc[0]
    assert (row["n"], row["name"], row["kl"]) == (7, "from file", 3.5)
    assert "KL to the prior, nats" in capsys.readouterr().out


def test_parameters_that_are_no_training_parameters_keep_their_type(quick):
    with pytest.raises(ConfigError, match="parameter 'n': wanted a valid integer, got 'many'"):
        runs.resolve(quick, {"n": "many"})
    assert runs.resolve(quick, {"size": 3}).size == 3


def test_a_damaged_data_set_ends_in_one_clear_error(notebook, monkeypatch, tmp_path, capsys):
    folder = tmp_path / "shared" / "mnist"
    folder.mkdir(parents=True)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"truncated")
    monkeypatch.setenv("TOPO_DATA", str(folder.parent))
    assert runs.main([str(notebook), "-p", "dataset=mnist"]) == 1
    assert "train-images-idx3-ubyte.gz is damaged: 9 bytes" in capsys.readouterr().err
    assert len(runs.collect()) == 0


@pytest.mark.parametrize("damage", ["clash", "missing", "truncated", "empty", "no list"])
def test_damaged_records_are_named_and_skipped(quick, damage):
    whole, damaged = runs.execute(quick), runs.execute(quick, {"n": 2})
    file = damaged / "metrics.json"
    if damage == "missing":
        file.unlink()
    else:
        file.write_text({"truncated": file.read_text()[:10], "empty": "", "no list": "{}", "clash": CLASH}[damage])
    with pytest.warns(UserWarning, match=damaged.name):
        table = runs.collect()
    assert table["run"].tolist() == [whole.name]


CLASH = '[{"model": "a", "n": "a metric that hides the parameter n"}]'


def test_no_records_are_an_empty_table():
    assert len(runs.collect()) == 0


def test_notebooks_that_cannot_be_read_are_named(tmp_path, capsys):
    assert runs.main([str(tmp_path / "none.ipynb")]) == 1
    assert "there is no notebook" in capsys.readouterr().err
    broken = tmp_path / "broken.ipynb"
    broken.write_text("{")
    assert runs.main([str(broken)]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_a_busy_port_is_tried_again(quick, monkeypatch):
    calls = []
    execute = runs.papermill.execute_notebook

    def busy_once(*arguments, **options):
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("Address already in use (addr='tcp://127.0.0.1:0')")
        return execute(*arguments, **options)

    monkeypatch.setattr(runs.papermill, "execute_notebook", busy_once)
    runs.execute(quick)
    assert len(calls) == 2


def test_the_code_digest_sees_code_and_not_prose(quick):
    before = runs.code_digest(quick)
    notebook = nbformat.read(quick, as_version=4)
    notebook.cells.append(nbformat.v4.new_markdown_cell("prose"))
    nbformat.write(notebook, quick)
    assert runs.code_digest(quick) == before
    notebook.cells.append(nbformat.v4.new_code_cell("1 + 1"))
    nbformat.write(notebook, quick)
    assert runs.code_digest(quick) != before


def test_publishing_cleans_the_notebook_and_keeps_the_table(quick, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(paths, "REPOSITORY", tmp_path)
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    (tmp_path / "README.md").write_text("| [quick](quick.ipynb) | what | not yet |\n| [other](o) | what | 3 s |\n")
    assert runs.main(["--publish", str(quick)]) == 0
    published = nbformat.read(quick, as_version=4)
    assert [cell.execution_count for cell in published.cells] == [1, 2]
    assert "papermill" not in quick.read_text()
    origin = json.loads((tmp_path / "results" / "quick.provenance.json").read_text())
    assert pd.read_csv(tmp_path / "results" / "quick.csv")["kl"].tolist() == [0.5]
    seconds = f"{origin['wall_seconds']:.0f}"
    assert (tmp_path / "README.md").read_text().splitlines() == [
        f"| [quick](quick.ipynb) | what | {seconds} s |",
        "| [other](o) | what | 3 s |",
    ]
    with pytest.raises(SystemExit):
        runs.main(["--publish", str(quick), "-p", "n=2"])


def test_a_table_of_several_records_is_kept_with_their_origins(quick, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    records = [runs.execute(quick, {"n": n}) for n in (2, 1)]
    assert runs.main(["--keep", "both", *map(str, records)]) == 0
    assert pd.read_csv(tmp_path / "results" / "both.csv")["n"].tolist() == [2, 1]
    origins = json.loads((tmp_path / "results" / "both.provenance.json").read_text())
    assert [each["run"] for each in origins] == [record.name for record in records]
    assert runs.main(["--keep", "bad", str(records[0]), str(tmp_path)]) == 1
    assert f"'{tmp_path}' is no whole record" in capsys.readouterr().err
    assert not (tmp_path / "results" / "bad.csv").exists()
    for name in ("../both", "06_train_topovae"):
        assert runs.main(["--keep", name, str(records[0])]) == 1
        assert "wanted a plain name that no notebook has" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        runs.main(["--keep", "both", str(records[0]), "-p", "n=2"])


def test_by_hand_there_is_a_scratch_folder_and_a_bar(monkeypatch, capsys):
    scratch = runs.folder()
    assert scratch.is_dir()
    assert str(scratch) in capsys.readouterr().out
    assert runs.progress() == "bar"
    monkeypatch.setenv("TOPO_RUN_FOLDER", "somewhere")
    assert runs.folder() == Path("somewhere")
    assert runs.progress() == "lines"


def test_help():
    answer = subprocess.run([sys.executable, "-m", "topo_utils.runs", "--help"], capture_output=True, text=True, check=True)
    assert "--publish" in answer.stdout


@pytest.mark.parametrize(
    ("parameters", "shape", "classes"),
    [
        ({"dataset": "digits", "latent_dimension": 3, "width": 8}, (1, 28, 28), None),
        ({"dataset": "nci", "latent_dimension": 3, "width": 4}, (189,), None),
        ({"dataset": "masks-28", "condition": "holes", "betti_dimension": 1, "width": 8}, (1, 28, 28), 4),
        ({"dataset": "torus", "width": 4}, (3,), None),
    ],
)
def test_a_trained_model_comes_back(parameters, shape, classes, tmp_path):
    config = VAEConfig(**parameters) if "latent_dimension" in parameters else DiffusionConfig(**parameters)
    model = untrained(config, shape, classes).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.1)
    (tmp_path / "config.json").write_text(json.dumps({"notebook": "x", "parameters": {**parameters, "samples": 3}}))
    runs.save(tmp_path, [], {}, {"it": model})
    again = runs.load_model(tmp_path, "it")
    condition = None if classes is None else torch.arange(4)
    assert not again.training
    assert torch.equal(evaluation.sample(again, 4, 0, condition), evaluation.sample(model, 4, 0, condition))
    with pytest.raises(RunError, match=r"other.safetensors' cannot be loaded .*; models there: it"):
        runs.load_model(tmp_path, "other")
    (tmp_path / "it.safetensors").write_bytes((tmp_path / "it.safetensors").read_bytes()[:-9])
    with pytest.raises(RunError, match="cannot be loaded"):
        runs.load_model(tmp_path, "it")
