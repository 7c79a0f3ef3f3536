"""The records of a grid as one table: from this machine where they are, else from ``data/results``; odd ones left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from topo_utils import paths
from topo_utils.runs.parameters import declared_parameters
from topo_utils.runs.record import PROVENANCE, Record, RunError
from topo_utils.runs.results import write_table
from topo_utils.runs.sweep import Run, grid_file, read_grid

ITEMS = ["notebook", "dataset", "seed", "limit"]
SHARED = {  # what runs that are compared have in common, and the parameters that may change it
    "code": ["notebook"],
    "train_digest": ITEMS,
    "features_digest": [*ITEMS, "features", "features_width"],
}


class Comparison(NamedTuple):
    """What is known of a grid.

    Attributes
    ----------
    table
        A row a run and model, as :func:`topo_utils.runs.collect` has them, and ``epoch_seconds``, the median time of an
        epoch of its training, where it was kept: it depends on the machine, and on what ran beside.
    source
        Where they come from, in words.
    missing
        Names of the runs that are nowhere.
    left_out
        Names of the runs that are there and cannot be compared with the others, each with the reason.
    commits
        Commits of git that the runs are of; one that ends in ``+`` had changes that were not committed.
    """

    table: pd.DataFrame
    source: str
    missing: list[str]
    left_out: dict[str, str]
    commits: list[str]

    def __str__(self) -> str:
        text = f"{self.table['run'].nunique()} runs from {self.source}; commits: {', '.join(self.commits)}"
        text += f"\n{len(self.missing)} runs of the grid are missing" * bool(self.missing)
        return text + "".join(f"\nleft out: {run}: {reason}" for run, reason in self.left_out.items())


def read(grid: str) -> Comparison:
    """Read the runs of a grid: a name in ``notebooks/workflow/grids``, or a YAML file.

    Runs of one notebook are compared where they share the code; those of one data set, seed and number of items, where they
    share these items, and F where it is of one kind. Of several the most frequent is kept, and the others are left out.

    Raises
    ------
    ConfigError
        See :func:`topo_utils.runs.sweep.read_grid`.
    RunError
        Not one run is there, or a record is damaged.
    """
    rows, known, here, missing = _collected(grid)
    parts = {"data/runs": here, "data/results": len(known) - here}
    source = " and ".join(f"{name} ({count})" for name, count in parts.items() if count)
    table = pd.DataFrame(rows)
    table["epoch_seconds"] = [known[row["run"]]["models"].get(row["model"], {}).get("epoch_seconds") for row in rows]
    left_out = _odd(table)
    commits = sorted({_commit(origin) for origin in known.values()})
    return Comparison(table[~table["run"].isin(left_out)].reset_index(drop=True), source, missing, left_out, commits)


def keep(grid: str) -> tuple[Path, list[str]]:
    """Keep the table of a grid in ``data/results``: the runs of this machine and, of the others, what was kept before.

    So results come together in parts, on several machines.

    Returns
    -------
    Path
        The table.
    list of str
        Names of the runs that are nowhere yet.

    Raises
    ------
    ConfigError, RunError
        As :func:`read` raises them; nothing was written.
    """
    rows, known, _, missing = _collected(grid)
    return write_table(Path(grid).stem, rows, known), missing


def _collected(grid: str) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]], int, list[str]]:
    """Rows of the runs of a grid, where each comes from, how many are of this machine, and the names of the missing."""
    kept, origins = _published(grid)
    rows, known, here, missing = [], {}, 0, []
    for run in read_grid(grid_file(grid)):
        if (paths.runs() / run.record / PROVENANCE).exists():
            record = Record(paths.runs() / run.record)
            rows += record.rows()
            known[run.record] = record.provenance
            here += 1
        elif len(same := _rows_of(kept, run)):
            rows += same.to_dict("records")
            known |= {name: origins[name] for name in same["run"]}
        else:
            missing.append(run.record)
    if not rows:
        raise RunError(f"no run of the grid '{grid}' is here or in data/results: make sweep PROFILE={grid}")
    return rows, known, here, missing


def changes(table: pd.DataFrame, notebook: Path) -> pd.Series:
    """What sets each row apart from what most runs on its data set have: ``gamma_latent 30, prior vamp``; empty for those.

    Parameters
    ----------
    table
        Of :func:`read`, of one notebook.
    notebook
        Whose parameters are looked at, all but the data set and the seed. Of values that are as frequent, the first in
        order is the usual one.
    """
    names = [name for name in declared_parameters(notebook) if name in table and name not in ("dataset", "seed")]
    words = pd.Series("", index=table.index)
    texts = table[names].astype(object).where(table[names].notna(), "none").map(lambda value: str(value).removesuffix(".0"))
    for _, rows in texts.groupby(table["dataset"]):
        usual = rows.mode().iloc[0]
        for row, values in rows.iterrows():
            words[row] = ", ".join(f"{name} {values[name]}" for name in names if values[name] != usual[name])
    return words


def optimiser_steps(table: pd.DataFrame) -> pd.DataFrame:
    """Steps of the optimiser in the training of each row.

    Parameters
    ----------
    table
        Of :func:`read`, of models of the VAE family.

    Returns
    -------
    DataFrame
        Columns ``own``, the model's; and ``with_features``, with those of the training of F, where a regulariser pulls to F
        or the encoder starts from it. Items that do not fill a batch wait for another epoch.
    """
    from topo_utils.datasets import REGISTRY  # here: they import a lot
    from topo_utils.models.features import training_steps

    own = table["epochs"] * (table["train_items"] // table["batch_size"] // table.get("devices", 1))
    gammas = table.filter(regex="^gamma_").fillna(0).any(axis=1)
    uses = gammas | (table["encoder_from"] == "features" if "encoder_from" in table else False)
    theirs = [
        training_steps(REGISTRY[dataset].domain.name, int(items))
        for dataset, items in zip(table["dataset"], table["train_items"], strict=True)
    ]
    return pd.DataFrame({"own": own.astype(int), "with_features": (own + uses * theirs).astype(int)}, index=table.index)


def _published(grid: str) -> tuple[pd.DataFrame, dict[str, dict]]:
    """The committed table of a grid and where each run comes from."""
    import json

    file = paths.RESULTS / f"{Path(grid).stem}.csv"
    if not file.exists():
        return pd.DataFrame({"run": [], "notebook": []}), {}
    origins = json.loads(file.with_suffix(f".{PROVENANCE}").read_text())
    return pd.read_csv(file), {each.pop("run"): each for each in origins}


def _rows_of(kept: pd.DataFrame, run: Run) -> pd.DataFrame:
    """Rows of a run, and of its baselines, which have other weights: its last row is that of the model it is about."""
    last = kept.drop_duplicates("run", keep="last")
    return kept[kept["run"].isin(last["run"][_is(last, run)])]


def _is(kept: pd.DataFrame, run: Run) -> pd.Series:
    """Rows with the parameters of a run. One that its notebook has got since then is taken to have had the default.

    So results stay those of their runs when a notebook gets another parameter, which changes the names of all its records.
    """
    defaults = declared_parameters(run.notebook)
    found = kept["notebook"] == run.notebook.stem
    for name, value in run.resolved.items():
        if name in kept:
            found &= (
                kept[name].isna() if value is None else kept[name] == (str(value) if isinstance(value, list) else value)
            )
        elif value is not None:  # a column that is empty in all rows is not kept
            found &= value == defaults[name]
    return found


def _commit(provenance: dict) -> str:
    return str(provenance["git_commit"])[:10] + "+" * bool(provenance["git_dirty"])


def _odd(table: pd.DataFrame) -> dict[str, str]:
    """Runs that have not what most of the runs have that they are compared with."""
    odd = {}
    for what, parameters in SHARED.items():
        if what not in table:
            continue
        by = [name for name in parameters if name in table]
        for _, group in table.dropna(subset=[what]).groupby(by, dropna=False):
            usual = group[what].mode().iloc[0]
            odd |= dict.fromkeys(group["run"][group[what] != usual], f"another {what} than the runs it is compared with")
    return odd
