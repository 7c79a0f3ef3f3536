"""Many runs by a batch engine: ``python -m topo_utils.runs.sweep start GRID`` plans a grid and hands it to Snakemake.

A grid is a YAML list of blocks::

    - notebook: 06_train_topovae   # in notebooks/, or beside the grid
      profile: smoke           # starts from notebooks/params/smoke/06_train_topovae.yaml; left out: from the defaults
      shared: {width: 8}       # parameters of all its runs
      cross: {seed: [0, 1], gamma_latent: [0.0, 10.0]}   # every combination is a run

Everything of a sweep lies in one folder: the plan, the parameters of each run, a log and, when it is done, a receipt, which
is a copy of its record's provenance. The records lie where all records lie.
"""

from __future__ import annotations

import argparse
import fcntl
import itertools
import os
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import yaml

from topo_utils import paths
from topo_utils.config import ConfigError
from topo_utils.runs.origin import code_digest
from topo_utils.runs.parameters import parse, read_parameters, record_name, resolve
from topo_utils.runs.record import PARTIAL, PROVENANCE, Record, RunError, write_json

WORKFLOW = paths.NOTEBOOKS / "workflow"
PLAN = "plan.json"
KEYS = {"notebook", "profile", "shared", "cross"}
STATES = ("done", "running", "interrupted", "waiting")


class Run(NamedTuple):
    """One run of a grid: the name of its record, its notebook, the parameters that it is given, and all that it has."""

    record: str
    notebook: Path
    parameters: dict[str, Any]
    resolved: dict[str, Any]

    @property
    def gpu(self) -> int:
        """How many it needs."""
        return int(self.resolved.get("accelerator") == "gpu")


def read_grid(file: Path) -> list[Run]:
    """All runs of a grid, each checked as a single run is.

    Raises
    ------
    ConfigError
        The file is missing, or no such list; a block with another key, an unknown notebook, profile or parameter; a run
        that is there twice; or no run at all.
    """
    runs: dict[str, Run] = {}
    for number, block in enumerate(_blocks(file), start=1):
        where = f"{file.name}, block {number}"
        notebook, shared, cross = _checked(where, block, file.resolve().parent)
        for values in itertools.product(*cross.values()):
            given = {**shared, **dict(zip(cross, values, strict=True))}
            try:
                resolved = resolve(notebook, given)
            except ConfigError as error:
                raise ConfigError(f"{where}: {error}") from None
            record = record_name(notebook.stem, resolved)
            if record in runs:
                raise ConfigError(f"{where}: the run {given} is there twice")
            runs[record] = Run(record, notebook, given, resolved)
    if not runs:
        raise ConfigError(f"{file}: wanted at least one run, got none")
    return list(runs.values())


def plan(file: Path, folder: Path) -> list[Run]:
    """Write the plan of a grid into a folder, for the engine: ``plan.json``, and a file of parameters for each run.

    A receipt whose record is gone or has another content than then is removed, so that its run is made again; so is the log
    of a run that is not done, lest it be taken for that of the next attempt.
    """
    runs = read_grid(file)
    for each in ("params", "receipts", "logs"):
        (folder / each).mkdir(parents=True, exist_ok=True)
    digests = {notebook: code_digest(notebook) for notebook in {run.notebook for run in runs}}
    for run in runs:
        text = yaml.safe_dump(run.parameters, allow_unicode=True)  # JSON's 1e+30 would be a word to other readers
        with paths.atomic(folder / "params" / f"{run.record}.yaml") as scratch:
            scratch.write_text(text)
        receipt, written = _receipt(folder, run.record), paths.runs() / run.record / PROVENANCE
        if receipt.exists() and not (written.exists() and written.read_bytes() == receipt.read_bytes()):
            receipt.unlink()
        if not receipt.exists():
            (folder / "logs" / f"{run.record}.log").unlink(missing_ok=True)
    entries = {run.record: {"notebook": str(run.notebook), "code": digests[run.notebook], "gpu": run.gpu} for run in runs}
    write_json(folder / PLAN, entries)
    return runs


def start(grid: str, cores: int, profile: str) -> None:
    """Plan, and become the engine: this process is Snakemake's from here on, and signals are.

    Raises
    ------
    ConfigError
        See :func:`read_grid`.
    RunError
        Another engine works on this grid.
    """
    folder = _folder(grid)
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / ".engine.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system lets go of it when the engine ends, however it does
    except BlockingIOError:
        raise RunError(f"a sweep of '{grid}' is under way: python -m topo_utils.runs.sweep status {grid}") from None
    os.set_inheritable(lock.fileno(), True)
    runs = plan(grid_file(grid), folder)
    print(f"{len(runs)} runs; logs, receipts and the plan lie in {folder}", flush=True)
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(WORKFLOW / "Snakefile"), "--directory", str(folder)]
    command += ["--profile", str(WORKFLOW / "profiles" / profile), "--cores", str(cores), "--jobs", str(cores)]
    os.execv(sys.executable, command)


def status(grid: str) -> Counter[str]:
    """How many runs of a grid are done, running, interrupted (or failed) and waiting."""
    folder = _folder(grid)
    return Counter(_state(folder, run.record) for run in read_grid(grid_file(grid)))


def _state(folder: Path, record: str) -> str:
    receipt, written = _receipt(folder, record), paths.runs() / record / PROVENANCE
    if receipt.exists() and written.exists() and written.read_bytes() == receipt.read_bytes():
        return "done"
    try:
        with filelock.FileLock(paths.runs() / f".{record}.lock", timeout=0):
            return "interrupted" if (paths.runs() / (record + PARTIAL)).exists() else "waiting"
    except filelock.Timeout:
        return "running"


def finish(grid: str) -> Path:
    """The table of all runs of a grid, in its folder, when all are done.

    Raises
    ------
    RunError
        Not all of them are done, or a record is damaged.
    """
    counted = status(grid)
    if set(counted) != {"done"}:
        raise RunError(f"the sweep of '{grid}' is not done: {_described(counted)}")
    rows = [row for run in read_grid(grid_file(grid)) for row in Record(paths.runs() / run.record).rows()]
    import pandas as pd

    table = _folder(grid) / "table.csv"
    with paths.atomic(table) as scratch:
        pd.DataFrame(rows).to_csv(scratch, index=False)
    return table


def main(arguments: list[str] | None = None) -> int:
    """The command; its exit code is 0, 1 for a sweep that cannot go on or is not done, 2 for a wrong grid."""
    parser = argparse.ArgumentParser(prog="python -m topo_utils.runs.sweep", description="Run a grid of notebooks.")
    parser.add_argument("command", choices=("start", "status", "finish", "keep"))
    parser.add_argument("grid", help="a name in notebooks/workflow/grids, such as smoke, or a YAML file")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="runs side by side, each on one core")
    parser.add_argument("--profile", default="local", help="a name in notebooks/workflow/profiles: local or slurm")
    options = parser.parse_args(arguments)
    try:
        if options.command == "start":
            start(options.grid, options.cores, options.profile)
        elif options.command == "status":
            print(_described(status(options.grid)))
        elif options.command == "finish":
            print(f"all runs are done; their table is {finish(options.grid)}")
        else:
            from topo_utils.runs import comparison  # here: it knows of grids from this module

            table, missing = comparison.keep(options.grid)
            print(f"{table}; {len(missing)} runs of the grid are still missing")
    except (ConfigError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    return 0


def _described(counted: Counter[str]) -> str:
    return ", ".join(f"{counted[state]} {state}" for state in STATES)


def grid_file(grid: str) -> Path:
    """The file of a grid that is named, or that lies at a path."""
    named = WORKFLOW / "grids" / f"{grid}.yaml"
    return named if named.exists() else Path(grid)


def _folder(grid: str) -> Path:
    return paths.home() / "sweeps" / Path(grid).stem


def _receipt(folder: Path, record: str) -> Path:
    return folder / "receipts" / f"{record}.json"


def _blocks(file: Path) -> list[Any]:
    try:
        blocks = parse(file.read_text())
    except OSError as error:
        known = ", ".join(sorted(each.stem for each in (WORKFLOW / "grids").glob("*.yaml")))
        raise ConfigError(f"the grid '{file}' cannot be read: {error.strerror or error}; there are {known}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"the grid '{file}' is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        raise ConfigError(f"{file}: wanted a list of blocks, got {blocks!r:.80}")
    return blocks


def _checked(where: str, block: Mapping[str, Any], beside: Path) -> tuple[Path, dict[str, Any], dict[str, list]]:
    """Notebook, shared parameters with those of the profile below them, and the lists to cross."""
    if unknown := set(block) - KEYS:
        raise ConfigError(f"{where}: unknown key {sorted(unknown)[0]!r}; the known ones are {', '.join(sorted(KEYS))}")
    places = [folder / f"{block.get('notebook')}.ipynb" for folder in (paths.NOTEBOOKS, beside)]
    notebook = next((place for place in places if place.is_file()), None)
    if notebook is None:
        raise ConfigError(f"{where}: wanted the name of a notebook under 'notebook', got {block.get('notebook')!r}")
    shared, cross = (block.get(key) or {} for key in ("shared", "cross"))
    if not isinstance(shared, dict) or not isinstance(cross, dict):
        raise ConfigError(f"{where}: wanted names and values under 'shared' and 'cross'")
    for name, values in cross.items():
        if not isinstance(values, list) or not values:
            raise ConfigError(f"{where}: wanted a list of values under 'cross: {name}', got {values!r}")
        if name in shared:
            raise ConfigError(f"{where}: '{name}' stands under 'shared' and under 'cross'")
    profile = block.get("profile")
    below = {}
    if profile is not None:
        name, _, variant = str(profile).partition("-")  # cpu-qm9: notebooks/params/cpu/06_train_topovae-qm9.yaml
        stem = notebook.stem + (f"-{variant}" if variant else "")
        below = read_parameters(paths.NOTEBOOKS / "params" / name / f"{stem}.yaml")
    return notebook, {**below, **shared}, cross


if __name__ == "__main__":
    sys.exit(main())
