"""The committed results: executed notebooks, and tables with where they come from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from topo_utils import paths
from topo_utils.runs.record import PROVENANCE, Record, RunError, write_json

if TYPE_CHECKING:
    import nbformat


def publish(notebook: Path, path: Path) -> None:
    """Keep an executed notebook in its place, its table and pictures in ``data/results``, its run time in README."""
    import nbformat  # here: it is slow to import

    record = Record(path)
    origin = record.provenance
    executed = clean(nbformat.read(path / "notebook.ipynb", as_version=4))
    measured = f"{origin['wall_seconds']:.0f} s with the defaults on {origin['cores']} cores of {origin['processor']}"
    for cell in executed.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"(?<=^> \*\*Time\*\* · ).*", measured, cell.source, flags=re.MULTILINE)
    readme = (paths.REPOSITORY / "README.md").read_text()
    row = rf"(?<=^\| )(\[{re.escape(notebook.stem)}\]\(.*\) \| .* \|) .* (?=\|$)"
    readme = re.sub(row, rf"\1 {origin['wall_seconds']:.0f} s ", readme, flags=re.MULTILINE)
    contents = {
        notebook: nbformat.writes(executed).rstrip("\n").encode() + b"\n",
        paths.RESULTS / f"{notebook.stem}.{PROVENANCE}": (path / PROVENANCE).read_bytes(),
        paths.REPOSITORY / "README.md": readme.encode(),
    }
    if rows := record.rows():
        contents[paths.RESULTS / f"{notebook.stem}.csv"] = _written(rows)
    for picture in path.glob("*.png"):
        contents[paths.RESULTS / f"{notebook.stem}-{picture.name}"] = picture.read_bytes()
    for file, content in contents.items():
        with paths.atomic(file) as scratch:
            scratch.write_bytes(content)


def keep(name: str, records: list[Path]) -> Path:
    """Keep the table of several runs, and where each comes from, in ``data/results``; returns the table's file.

    Raises
    ------
    RunError
        A record is missing, damaged or given twice, or the name is a path or that of a notebook; nothing was written.
    """
    if not re.fullmatch(r"\w[\w.-]*", name) or name in {file.stem for file in paths.NOTEBOOKS.rglob("*.ipynb")}:
        raise RunError(f"--keep: wanted a plain name that no notebook has, got {name!r}")
    whole = [Record(path) for path in records]
    if len({record.name for record in whole}) < len(whole):
        raise RunError("--keep: wanted each record once, got one of them twice")
    rows = [row for record in whole for row in record.rows()]
    return write_table(name, rows, {each.name: each.provenance for each in whole})


def write_table(name: str, rows: list[dict[str, Any]], origins: dict[str, dict[str, Any]]) -> Path:
    """Write rows of records, and by their runs where they come from, as a table of ``data/results``; returns its file."""
    with paths.atomic(paths.RESULTS / f"{name}.csv") as scratch:
        scratch.write_bytes(_written(rows))
    write_json(paths.RESULTS / f"{name}.{PROVENANCE}", [{"run": run, **origin} for run, origin in origins.items()])
    return paths.RESULTS / f"{name}.csv"


def _written(rows: list[dict]) -> bytes:
    """A table without what differs from run to run of the same code, and without empty columns."""
    table = pd.DataFrame(rows).drop(columns="wall_seconds", errors="ignore")  # gone already where it was published before
    return table.dropna(axis=1, how="all").to_csv(index=False).encode()


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Keep sources, outputs, counts and tags; strip what differs from one execution to the next, or shows a machine."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells):
        tags = cell.metadata.get("tags", [])
        cell.metadata = {"tags": tags} if tags else {}
        cell.id = f"cell-{number:02d}"
        for output in cell.get("outputs", []):
            if "data" in output:
                output.data = {kind: value for kind, value in output.data.items() if "widget" not in kind}
                output.metadata = {}
    return notebook
