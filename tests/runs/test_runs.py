from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import torch

from topo_utils import paths, runs
from topo_utils.config import ConfigError
from topo_utils.metrics import described
from topo_utils.runs import RunError, execution
from topo_utils.runs.__main__ import main
from topo_utils.runs.parameters import assignments

from .notebooks import PARAMETERS, QUICK, TRAINING, write


def test_a_run_leaves_a_whole_record(notebook):
    record = runs.execute(notebook, {"epochs": 1, "seed": 3})
    assert record.parent == paths.runs()
    assert record.name.startswith("digits-small-seed3-")
    names = {file.name for file in record.iterdir() if file.is_file()}
    wanted = {"notebook.ipynb", "config.json", "history.csv", "metrics.json", "provenance.json"}
    wanted |= {"vae.safetensors", "features.safetensors"}
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
    assert {"git_commit", "git_dirty", "device", "threads", "cores", "instructions", "wall_seconds", "code"} <= set(origin)
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
    assert main([str(failing)]) == 1
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
        patch.setattr(execution, "_finish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            runs.execute(quick)
    assert (record / "metrics.json").read_bytes() == before
    assert len(runs.collect()) == 1
    assert runs.execute(quick) == record
    assert [path.name for path in paths.runs().iterdir() if path.is_dir()] == [record.name]


def test_a_promotion_that_was_killed_half_way_is_undone(quick):
    record = runs.execute(quick)
    record.rename(record.with_name(record.name + ".retired"))
    execution._recover(record)
    assert len(runs.collect()) == 1


def test_a_place_that_cannot_be_written_is_named(quick, monkeypatch, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TOPO_HOME", str(tmp_path / "file"))
    assert main([str(quick)]) == 1
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
    assert main([str(notebook), *arguments]) == 2
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
        ("seed: 1\nepochs: 3\nseed: 2", "the key 'seed' stands twice"),
        ("epochs: 012", "parameter 'epochs': wanted a valid integer, got '012'"),
        ("epochs: 1:30", "parameter 'epochs': wanted a valid integer, got '1:30'"),
        ("epochs: 1_000", "parameter 'epochs': wanted a valid integer, got '1_000'"),
        ("epochs: 2001-01-01", "parameter 'epochs': wanted a valid integer, got '2001-01-01'"),
        ("epochs: yes", "parameter 'epochs': wanted a valid integer, got 'yes'"),
        ("epochs: true", "parameter 'epochs': wanted a valid integer, got True"),
        ("gamma_latent: .nan", "parameter 'gamma_latent': wanted a finite number, got nan"),
    ],
)
def test_wrong_parameter_files_are_named(notebook, tmp_path, content, message, capsys):
    file = tmp_path / "parameters.yaml"
    file.write_text(content)
    assert main([str(notebook), "-f", str(file)]) == 2
    assert message in capsys.readouterr().err
    assert not paths.runs().exists()


def test_parameters_of_the_command_line_go_before_those_of_the_file(quick, tmp_path, capsys):
    file = tmp_path / "parameters.yaml"
    file.write_text("n: 5\nname: from file")
    assert main([str(quick), "-f", str(file), "-p", "n=7"]) == 0
    row = runs.collect().iloc[0]
    assert (row["n"], row["name"], row["kl"]) == (7, "from file", 3.5)
    assert described("kl") in capsys.readouterr().out


def test_parameters_that_are_no_training_parameters_keep_their_type(quick):
    with pytest.raises(ConfigError, match="parameter 'n': wanted a valid integer, got 'many'"):
        runs.resolve(quick, {"n": "many"})
    assert runs.resolve(quick, {"size": 3})["size"] == 3


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("1e-3", 0.001), ("1.0e+6", 1e6), ("-2", -2), ("+2", 2), ("0", 0), (".5", 0.5), ("3.", 3.0), ("true", True)],
        *[("False", False), ("null", None), ("~", None), ("", None), ("no", "no"), ("on", "on"), ("0o7", "0o7")],
        *[("'1'", "1"), ("[1, 2]", [1, 2]), ("12:30:45", "12:30:45"), ("0x10", "0x10"), ("n", "n"), ("=", "=")],
    ],
)
def test_plain_words_mean_what_they_look_like(text, value, tmp_path):
    file = tmp_path / "parameters.yaml"
    file.write_text(f"it: {text}")
    found = runs.read_parameters(file)["it"]
    assert found == value
    assert type(found) is type(value)


def test_one_parameter_given_twice_is_refused(quick, capsys):
    assert main([str(quick), "-p", "n=1", "-p", "n=2"]) == 2
    assert "-p n: given twice" in capsys.readouterr().err


def test_braces_in_a_path_are_part_of_it(tmp_path, monkeypatch):
    """papermill would take them for places to put parameters in."""
    folder = tmp_path / "{n} and {other}"
    folder.mkdir()
    monkeypatch.setenv("TOPO_HOME", str(folder / "home {}"))
    record = runs.execute(write(folder / "quick{n}.ipynb", *QUICK), {"n": 2})
    assert (record / "notebook.ipynb").exists()
    assert runs.collect()["kl"].tolist() == [1.0]


def test_provenance_is_of_the_state_at_the_start(quick, monkeypatch):
    answers = iter(["at the start", "at the end"])
    monkeypatch.setattr(execution, "provenance", lambda: {"git_commit": next(answers)})
    assert runs.Record(runs.execute(quick)).provenance["git_commit"] == "at the start"


def test_a_copy_inside_of_another_repository_has_no_commit(tmp_path, monkeypatch):
    answers = {"--show-toplevel": str(tmp_path), "HEAD": "0123456789", "--": ""}

    def answer(command, **options):
        return subprocess.CompletedProcess(command, 0, stdout=next(a for key, a in answers.items() if key in command))

    monkeypatch.setattr(subprocess, "run", answer)
    monkeypatch.setattr(paths, "REPOSITORY", tmp_path / "vendored" / "copy")
    assert runs.provenance()["git_commit"] is None
    monkeypatch.setattr(paths, "REPOSITORY", tmp_path)
    assert runs.provenance()["git_commit"] == "0123456789"


def test_the_last_change_of_a_file_is_told_in_words(tmp_path, monkeypatch):
    answers = {"--show-toplevel": str(tmp_path), "log": "abc1234, 2026-11-01", "status": ""}

    def answer(command, **options):
        return subprocess.CompletedProcess(command, 0, stdout=next(a for key, a in answers.items() if key in command))

    monkeypatch.setattr(subprocess, "run", answer)
    monkeypatch.setattr(paths, "REPOSITORY", tmp_path)
    assert runs.last_change(tmp_path / "file") == "abc1234, 2026-11-01"
    answers["status"] = " M file"
    assert runs.last_change(tmp_path / "file") == "abc1234, 2026-11-01, and since then without a commit"
    answers["log"] = ""
    assert runs.last_change(tmp_path / "file").startswith("unknown")
    monkeypatch.setattr(paths, "REPOSITORY", tmp_path / "vendored")
    assert runs.last_change(tmp_path / "file").startswith("unknown")


def test_a_damaged_data_set_ends_in_one_clear_error(notebook, monkeypatch, tmp_path, capsys):
    folder = tmp_path / "shared" / "mnist"
    folder.mkdir(parents=True)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"truncated")
    monkeypatch.setenv("TOPO_DATA", str(folder.parent))
    assert main([str(notebook), "-p", "dataset=mnist"]) == 1
    assert "train-images-idx3-ubyte.gz is damaged: 9 bytes" in capsys.readouterr().err
    assert len(runs.collect()) == 0


def test_no_records_are_an_empty_table():
    assert len(runs.collect()) == 0


def test_notebooks_that_cannot_be_read_are_named(tmp_path, capsys):
    assert main([str(tmp_path / "none.ipynb")]) == 1
    assert "there is no notebook" in capsys.readouterr().err
    broken = tmp_path / "broken.ipynb"
    broken.write_text("{")
    assert main([str(broken)]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_each_kernel_has_sockets_of_its_own_and_leaves_none(tmp_path, home):
    """Of ports two kernels that start at one moment can pick the same."""
    body = (
        "from ipykernel.kernelapp import IPKernelApp\n\nprint(IPKernelApp.instance().transport, IPKernelApp.instance().ip)"
    )
    notebook = write(tmp_path / "where.ipynb", "n: int = 1", body)
    said = []
    for n in (1, 2):
        executed = nbformat.read(runs.execute(notebook, {"n": n}) / "notebook.ipynb", as_version=4)
        said += [output.text.split() for cell in executed.cells for output in cell.get("outputs", []) if "text" in output]
    (first, one), (second, other) = said
    assert first == second == "ipc"
    assert one != other
    assert not Path(one).parent.exists()


def test_the_code_digest_sees_code_and_not_prose(quick):
    before = runs.code_digest(quick)
    notebook = nbformat.read(quick, as_version=4)
    notebook.cells.append(nbformat.v4.new_markdown_cell("prose"))
    nbformat.write(notebook, quick)
    assert runs.code_digest(quick) == before
    notebook.cells.append(nbformat.v4.new_code_cell("1 + 1"))
    nbformat.write(notebook, quick)
    assert runs.code_digest(quick) != before


def test_the_code_digest_covers_what_is_imported_and_makes_numbers(quick, monkeypatch, tmp_path):
    from topo_utils.runs import origin

    package = tmp_path / "topo_utils"
    shutil.copytree(origin.PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(origin, "PACKAGE", package)
    notebook = nbformat.read(quick, as_version=4)
    notebook.cells += [
        nbformat.v4.new_code_cell("%matplotlib inline\nfrom topo_utils.models import priors\nfrom topo_utils import plots"),
        nbformat.v4.new_code_cell("def f():\n    import topo_utils.training.matching"),
        nbformat.v4.new_code_cell("this is no Python"),
    ]
    nbformat.write(notebook, quick)
    before = runs.code_digest(quick)
    for other in ("plots/comparisons.py", "runs/record.py", "models/diffusion_of_nobody.py", "evaluation/statistics.py"):
        (package / other).touch()
        (package / other).write_text((package / other).read_text() + "\n# changed\n")
        assert runs.code_digest(quick) == before, other
    for other in ("models/priors.py", "models/__init__.py", "training/matching.py", "topology/loss.py", "seed.py"):
        (package / other).write_text((package / other).read_text() + "\n# changed\n")
        assert runs.code_digest(quick) != before, other
        before = runs.code_digest(quick)


def test_publishing_cleans_the_notebook_and_keeps_the_table(quick, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(paths, "REPOSITORY", tmp_path)
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    (tmp_path / "README.md").write_text("| [quick](quick.ipynb) | what | not yet |\n| [other](o) | what | 3 s |\n")
    assert main(["--publish", str(quick)]) == 0
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
        main(["--publish", str(quick), "-p", "n=2"])


def test_a_table_of_several_records_is_kept_with_their_origins(quick, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    records = [runs.execute(quick, {"n": n}) for n in (2, 1)]
    assert main(["--keep", "both", *map(str, records)]) == 0
    assert pd.read_csv(tmp_path / "results" / "both.csv")["n"].tolist() == [2, 1]
    origins = json.loads((tmp_path / "results" / "both.provenance.json").read_text())
    assert [each["run"] for each in origins] == [record.name for record in records]
    assert main(["--keep", "bad", str(records[0]), str(tmp_path)]) == 1
    assert f"'{tmp_path}' is no whole record" in capsys.readouterr().err
    assert not (tmp_path / "results" / "bad.csv").exists()
    for name in ("../both", "06_train_topovae"):
        assert main(["--keep", name, str(records[0])]) == 1
        assert "wanted a plain name that no notebook has" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--keep", "both", str(records[0]), "-p", "n=2"])


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
    examples = re.findall(r"(?m)^  python -m topo_utils\.runs (.*)$", answer.stdout)
    assert len(examples) == 3
    for name in re.findall(r"notebooks/\S+", " ".join(examples)):
        assert (paths.NOTEBOOKS.parent / name).is_file(), name


def test_a_notebooks_parameters_are_listed_as_they_can_be_given(tmp_path, capsys):
    body = "n: int = 1  # how many\nname = 'a'\nmost = None  # a number; None for all\nlabels: list = [1, 2]"
    notebook = write(tmp_path / "some.ipynb", body, "pass")
    assert main(["--parameters", str(notebook)]) == 0
    listed = capsys.readouterr().out
    assert re.search(r"(?m)^  n=1 +how many$", listed)
    assert re.search(r"(?m)^  most=null +a number; None for all$", listed)
    given = re.findall(r"(?m)^  (\S+=(?:\[.*\]|\S+))", listed)
    assert assignments(given) == {"n": 1, "name": "a", "most": None, "labels": [1, 2]}
    assert main(["--parameters", str(tmp_path / "none.ipynb")]) == 1
    assert "there is no notebook" in capsys.readouterr().err
