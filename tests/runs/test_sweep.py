"""Grids of runs: what is planned, what the engine does with it, and what is left when something is killed."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import filelock
import pandas as pd
import pytest
import yaml

from topo_utils import paths, runs
from topo_utils.config import ConfigError, VAEConfig
from topo_utils.evaluation.hypotheses import read_hypotheses
from topo_utils.runs import sweep

from .notebooks import write

SLOW = (
    "n: int = 1\nwait: float = 0.0",
    """\
import json, os, pathlib, time

folder = pathlib.Path(os.environ["TOPO_RUN_FOLDER"])
with open(folder.parent.parent / "executions.txt", "a") as counted:
    counted.write(f"{n}\\n")
end = time.monotonic() + wait
while time.monotonic() < end and not (folder.parent.parent / "go").exists():
    time.sleep(0.05)
assert not (n == 13 and not (folder.parent.parent / "cured").exists()), "thirteen"
(folder / "metrics.json").write_text(json.dumps([{"model": "vae", "kl": n * 0.5}]))
""",
)
engine = pytest.mark.skipif(importlib.util.find_spec("snakemake") is None, reason="snakemake is not installed")


@pytest.fixture
def grid(tmp_path, home):
    """A grid of three runs of a notebook beside it."""
    write(tmp_path / "slow.ipynb", *SLOW)
    return write_grid(tmp_path / "tiny.yaml", [{"notebook": "slow", "cross": {"n": [1, 2, 3]}}])


def write_grid(file, blocks):
    file.write_text(yaml.safe_dump(blocks))
    return file


def command(grid, what="start"):
    return [sys.executable, "-m", "topo_utils.runs.sweep", what, str(grid), *(["--cores", "2"] * (what == "start"))]


def started(grid):
    """The engine in a session of its own, its output in a file beside the grid."""
    options = {"stderr": subprocess.STDOUT, "start_new_session": True}
    options["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # tests in the background ignore Ctrl-C
    with open(grid.with_suffix(".out"), "a") as out:
        return subprocess.Popen(command(grid), stdout=out, **options)


def swept(grid):
    return subprocess.run(command(grid), capture_output=True, text=True)


def executions(home):
    file = home / "executions.txt"
    return sorted(map(int, file.read_text().split())) if file.exists() else []


def wait_for(condition):
    """The test's own limit is that of the machine's patience: ten minutes."""
    for _ in range(6000):
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError("waited in vain")


def processes(home, *words):
    """Numbers of the processes that write into this home and whose command line holds all of these words."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        try:
            line, environment = (
                (each / file).read_bytes().replace(b"\0", b" ").decode() for file in ("cmdline", "environ")
            )
        except OSError:
            continue
        if f"TOPO_HOME={home}" in environment and all(word in line for word in words) and int(each.name) != os.getpid():
            found.append(int(each.name))
    return found


# --- the plan


def test_every_combination_is_a_run_with_its_own_record(tmp_path):
    write(tmp_path / "slow.ipynb", *SLOW)
    blocks = [
        {"notebook": "slow", "shared": {"wait": 2.0}, "cross": {"n": [1, 2]}},
        {"notebook": "slow", "cross": {"n": [1, 5], "wait": [0.5, 1.0]}},
        {"notebook": "slow"},
    ]
    found = sweep.read_grid(write_grid(tmp_path / "g.yaml", blocks))
    assert [run.parameters for run in found] == [
        {"wait": 2.0, "n": 1},
        {"wait": 2.0, "n": 2},
        *({"n": n, "wait": w} for n in (1, 5) for w in (0.5, 1.0)),
        {},
    ]
    assert [run.record for run in found] == [runs.name_of(tmp_path / "slow.ipynb", run.parameters) for run in found]
    assert {run.gpu for run in found} == {0}


def test_the_report_can_be_made_of_the_smallest_grid():
    """Its page on predictions wants the model and a baseline, two seeds of both."""
    hypotheses = read_hypotheses(paths.NOTEBOOKS / "params" / "hypotheses.yaml")
    found = [
        run.resolved
        for run in sweep.read_grid(sweep.WORKFLOW / "grids" / "smoke.yaml")
        if run.notebook.stem == "06_train_topovae"
    ]
    configs = [VAEConfig(**{k: v for k, v in each.items() if k in VAEConfig.model_fields}) for each in found]
    seeds = {model: {each.seed for each in configs if each.model == model} for model in (each.model for each in configs)}
    baseline = next(name for name in hypotheses.baselines if name in seeds)
    assert len(seeds[baseline] & seeds[hypotheses.model]) >= 2


@pytest.mark.parametrize("name", sorted(file.stem for file in (sweep.WORKFLOW / "grids").glob("*.yaml")))
def test_the_committed_grids_fit_their_notebooks(name):
    found = sweep.read_grid(sweep.WORKFLOW / "grids" / f"{name}.yaml")
    assert len({run.record for run in found}) == len(found) > 4
    assert {run.gpu for run in found} == {int(name == "gpu")}
    every = {"06_train_topovae", "07_train_topodiffusion_lite", "08_train_topodiffusionnet"}
    wanted = every if name in ("smoke", "cpu", "gpu") else {"19_floors"} if name == "floors" else {"06_train_topovae"}
    assert {run.notebook.stem for run in found} == wanted


def test_a_profile_lies_below_what_is_shared(tmp_path):
    block = {"notebook": "06_train_topovae", "profile": "smoke", "shared": {"width": 16}, "cross": {"seed": [3]}}
    (run,) = sweep.read_grid(write_grid(tmp_path / "g.yaml", [block]))
    wanted = runs.read_parameters(paths.NOTEBOOKS / "params/smoke/06_train_topovae.yaml") | {"width": 16, "seed": 3}
    assert run.parameters == wanted
    variant = {"notebook": "06_train_topovae", "profile": "cpu-qm9"}
    (run,) = sweep.read_grid(write_grid(tmp_path / "h.yaml", [variant]))
    assert run.parameters["dataset"] == "qm9"


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([], "wanted at least one run, got none"),
        ({"notebook": "slow"}, "wanted a list of blocks, got {'notebook': 'slow'}"),
        ([{"notebook": "fast"}], "bad.yaml, block 1: wanted the name of a notebook under 'notebook', got 'fast'"),
        ([{"cross": {}}], "block 1: wanted the name of a notebook .* got None"),
        ([{"notebook": "slow", "seeds": 3}], "unknown key 'seeds'; the known ones are cross, notebook, profile, shared"),
        ([{"notebook": "slow"}, {"notebook": "slow", "cross": {"m": [1]}}], "block 2: unknown parameter 'm'"),
        ([{"notebook": "slow", "cross": {"n": [1, "x"]}}], "block 1: parameter 'n': wanted .*, got 'x'"),
        ([{"notebook": "slow", "cross": {"n": []}}], "wanted a list of values under 'cross: n', got \\[\\]"),
        ([{"notebook": "slow", "cross": {"n": 3}}], "wanted a list of values under 'cross: n', got 3"),
        ([{"notebook": "slow", "shared": {"n": 1}, "cross": {"n": [1]}}], "'n' stands under 'shared' and under 'cross'"),
        ([{"notebook": "slow", "shared": [1]}], "wanted names and values under 'shared' and 'cross'"),
        ([{"notebook": "slow"}, {"notebook": "slow", "cross": {"n": [2, 1]}}], "the run {'n': 1} is there twice"),
        ([{"notebook": "slow", "profile": "huge"}], "params/huge/slow.yaml' cannot be read"),
    ],
)
def test_bad_grids_are_named_before_anything_runs(blocks, message, tmp_path, home, capsys):
    write(tmp_path / "slow.ipynb", *SLOW)
    file = write_grid(tmp_path / "bad.yaml", blocks)
    with pytest.raises(ConfigError, match=message):
        sweep.read_grid(file)
    assert sweep.main(["status", str(file)]) == 2
    assert "error: " in capsys.readouterr().err
    assert not (home / "runs").exists()


def test_a_grid_that_is_not_there_is_named(tmp_path, capsys):
    assert sweep.main(["status", "nothing"]) == 2
    said = capsys.readouterr().err
    assert "the grid 'nothing' cannot be read: No such file or directory; there are " in said
    assert all(file.stem in said for file in (sweep.WORKFLOW / "grids").glob("*.yaml"))
    (tmp_path / "no.yaml").write_text("a: [")
    assert sweep.main(["status", str(tmp_path / "no.yaml")]) == 2
    assert "is not YAML" in capsys.readouterr().err


def test_a_plan_names_code_and_parameters(grid, tmp_path, home):
    planned = sweep.plan(grid, home / "sweeps" / "tiny")
    content = json.loads((home / "sweeps" / "tiny" / "plan.json").read_text())
    assert list(content) == [run.record for run in planned]
    assert {each["code"] for each in content.values()} == {runs.code_digest(tmp_path / "slow.ipynb")}
    for run in planned:
        file = home / "sweeps" / "tiny" / "params" / f"{run.record}.yaml"
        assert runs.read_parameters(file) == run.parameters


def test_numbers_survive_the_file_of_parameters(tmp_path, home):
    write(tmp_path / "slow.ipynb", *SLOW)
    values = [1e30, 1e-7, 0.1, 12345678.9]
    file = write_grid(tmp_path / "g.yaml", [{"notebook": "slow", "cross": {"wait": values}}])
    planned = sweep.plan(file, home / "sweeps" / "g")
    read = [runs.read_parameters(home / "sweeps/g/params" / f"{run.record}.yaml")["wait"] for run in planned]
    assert read == values


def test_states_of_runs(grid, tmp_path, home):
    folder = home / "sweeps" / "tiny"
    first, second, third = (run.record for run in sweep.plan(grid, folder))
    done = runs.execute(tmp_path / "slow.ipynb", {"n": 1})
    assert sweep.status(str(grid)) == {"waiting": 3}  # without a receipt it was not the sweep that made it
    receipt = folder / "receipts" / f"{first}.json"
    receipt.write_bytes((done / "provenance.json").read_bytes())
    (home / "runs" / f"{second}.partial").mkdir()
    with filelock.FileLock(home / "runs" / f".{third}.lock"):
        assert sweep.status(str(grid)) == {"done": 1, "interrupted": 1, "running": 1}
    assert sweep.main(["status", str(grid)]) == 0
    assert sweep.main(["finish", str(grid)]) == 1
    (folder / "logs" / f"{second}.log").write_text("an older attempt")
    sweep.plan(grid, folder)
    assert receipt.exists()
    assert not (folder / "logs" / f"{second}.log").exists()
    (done / "provenance.json").write_text("{}")  # the record is another one now
    sweep.plan(grid, folder)
    assert not receipt.exists()


# --- one run that may be there already


def test_what_is_done_is_not_done_again(grid, tmp_path, home, capfd):
    notebook = tmp_path / "slow.ipynb"
    first = runs.execute(notebook, skip_done=True)
    before = (first / "provenance.json").read_bytes()
    assert runs.execute(notebook, skip_done=True) == first
    assert "this run is done" in capfd.readouterr().out
    assert executions(home) == [1]
    (first / "metrics.json").write_text("[]")  # damaged
    runs.execute(notebook, skip_done=True)
    assert executions(home) == [1, 1]
    write(notebook, SLOW[0], SLOW[1] + "\n# other code")
    runs.execute(notebook, skip_done=True)
    assert executions(home) == [1, 1, 1]
    assert (first / "provenance.json").read_bytes() != before


def test_a_record_of_other_data_is_not_done(tmp_path, monkeypatch):
    from topo_utils import datasets

    about = {**datasets.load("torus", "train", limit=50, seed=3).described()}
    assert runs.record._loaded(about).digest == about["digest"]
    with pytest.raises(runs.RunError, match="torus/train has other items now"):
        runs.record._loaded({**about, "digest": "0" * 16})
    with pytest.raises(runs.RunError, match="'mine' is one's own data"):
        runs.record._loaded({**about, "name": "mine"})


def test_a_receipt_is_a_copy_of_the_provenance(grid, tmp_path, home):
    receipt, notebook = tmp_path / "receipt.json", tmp_path / "slow.ipynb"
    call = [sys.executable, "-m", "topo_utils.runs", str(notebook), "--receipt"]
    assert subprocess.run([*call, str(receipt), "-p", "n=7"]).returncode == 0
    record = home / "runs" / runs.name_of(notebook, {"n": 7})
    assert receipt.read_bytes() == (record / "provenance.json").read_bytes()
    failed = subprocess.run([*call, str(tmp_path / "r"), "-p", "n=13"], capture_output=True, text=True)
    assert failed.returncode == 1
    assert "thirteen" in failed.stderr
    assert not (tmp_path / "r").exists()


# --- the engine


@engine
def test_a_sweep_does_each_run_once_and_again_only_what_changed(grid, tmp_path, home):
    write_grid(grid, [{"notebook": "slow", "cross": {"n": [1, 2]}}])
    first = swept(grid)
    assert first.returncode == 0, first.stdout + first.stderr
    assert executions(home) == [1, 2]
    assert sweep.main(["finish", str(grid)]) == 0
    table = pd.read_csv(home / "sweeps" / "tiny" / "table.csv")
    assert sorted(table["kl"]) == [0.5, 1.0]
    assert sorted(table["run"]) == sorted(run.record for run in sweep.read_grid(grid))
    notebook = json.loads((tmp_path / "slow.ipynb").read_text())
    notebook["cells"].append({"cell_type": "markdown", "id": "prose", "metadata": {}, "source": ["more prose"]})
    (tmp_path / "slow.ipynb").write_text(json.dumps(notebook))
    write_grid(grid, [{"notebook": "slow", "cross": {"n": [1, 2, 13]}}])  # one more, which will fail
    second = swept(grid)
    assert second.returncode != 0
    assert executions(home) == [1, 2, 13]
    assert sweep.status(str(grid)) == {"done": 2, "interrupted": 1}
    (failed,) = (run.record for run in sweep.read_grid(grid) if run.parameters["n"] == 13)
    assert "thirteen" in (home / "sweeps/tiny/logs" / f"{failed}.log").read_text()
    (home / "cured").touch()
    notebook["cells"][1]["source"] += "\n# other code"
    (tmp_path / "slow.ipynb").write_text(json.dumps(notebook))
    third = swept(grid)
    assert third.returncode == 0, third.stdout + third.stderr
    assert executions(home) == [1, 1, 2, 2, 13, 13]  # all of that notebook


@engine
@pytest.mark.parametrize("victim", ["engine", "worker", "kernel"])
def test_after_a_kill_the_next_sweep_finishes_and_nothing_is_counted_twice(victim, grid, tmp_path, home):
    write_grid(grid, [{"notebook": "slow", "shared": {"wait": 600.0}, "cross": {"n": [1, 2]}}])
    running = started(grid)
    wait_for(lambda: executions(home))
    words = {
        "engine": ("-m snakemake", "--directory"),
        "worker": ("topo_utils.runs", str(tmp_path / "slow.ipynb"), "--skip-done"),
        "kernel": ("ipykernel_launcher",),
    }[victim]
    os.kill(min(processes(home, *words)), signal.SIGKILL)
    (home / "go").touch()
    running.wait()
    again = swept(grid)  # at once: what was orphaned may still be at work
    assert again.returncode == 0, again.stdout + again.stderr
    assert sweep.status(str(grid)) == {"done": 2}
    assert sorted(pd.read_csv(sweep.finish(str(grid)))["kl"]) == [0.5, 1.0]
    assert len(executions(home)) in ((2,) if victim == "engine" else (2, 3))  # an orphan's work is waited for
    assert not list((home / "runs").glob("*.partial"))


@engine
def test_where_the_disk_is_full_a_run_fails_and_the_next_sweep_does_it_again(grid, tmp_path, home):
    """The disk holds what is small, and no file of a megabyte: a limit of the process stands for it."""
    body = SLOW[1] + "\n" + 'if n > 1:\n    (folder / "weights.bin").write_bytes(bytes(1_000_000 * n))'
    write(tmp_path / "big.ipynb", SLOW[0], body)
    write_grid(grid, [{"notebook": "big", "cross": {"n": [1, 2]}}])
    full = [sys.executable, "-c", "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20));"]
    full[-1] += " os.execv(sys.argv[1], sys.argv[1:])"
    failed = subprocess.run([*full, *command(grid)], capture_output=True, text=True)
    assert failed.returncode != 0
    assert sweep.status(str(grid)) == {"done": 1, "interrupted": 1}
    (large,) = (run.record for run in sweep.read_grid(grid) if run.parameters["n"] == 2)
    assert "File too large" in (home / "sweeps/tiny/logs" / f"{large}.log").read_text()
    assert not (home / "runs" / large).exists()
    again = swept(grid)
    assert again.returncode == 0, again.stdout + again.stderr
    assert executions(home) == [1, 2, 2]
    assert sorted(pd.read_csv(sweep.finish(str(grid)))["kl"]) == [0.5, 1.0]


@engine
def test_two_engines_at_once_are_one_too_many(grid, home):
    write_grid(grid, [{"notebook": "slow", "shared": {"wait": 600.0}, "cross": {"n": [1, 2]}}])
    running = started(grid)
    wait_for(lambda: executions(home))
    second = swept(grid)
    assert second.returncode == 1
    assert "is under way" in second.stderr
    (home / "go").touch()
    assert running.wait() == 0
    assert executions(home) == [1, 2]


@engine
def test_ctrl_c_ends_all_at_once_and_leaves_no_process(grid, home):
    write_grid(grid, [{"notebook": "slow", "shared": {"wait": 600.0}, "cross": {"n": [1, 2]}}])
    running = started(grid)
    wait_for(lambda: len(executions(home)) == 2)
    os.killpg(running.pid, signal.SIGINT)  # as the terminal does
    assert running.wait() != 0
    wait_for(lambda: not processes(home))
    assert sweep.status(str(grid)) == {"interrupted": 2}


@engine
def test_sigterm_lets_what_runs_end_and_starts_nothing_more(grid, home):
    write_grid(grid, [{"notebook": "slow", "shared": {"wait": 600.0}, "cross": {"n": [1, 2, 3]}}])
    running = started(grid)
    wait_for(lambda: len(executions(home)) == 2)
    running.send_signal(signal.SIGTERM)
    (home / "go").touch()
    assert running.wait() != 0
    assert not processes(home)
    assert sweep.status(str(grid)) == {"done": 2, "waiting": 1}
