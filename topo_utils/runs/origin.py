"""Where a result comes from: code, packages, machine."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from topo_utils import paths

PACKAGE = Path(__file__).parents[1]
NO_NUMBERS = ("plots", "runs")  # parts of this package that draw, and that start runs and keep what they give
PACKAGES = ("torch", "torchvision", "lightning", "numpy", "ripser", "persim", "torchmetrics", "papermill")


def code_digest(notebook: Path) -> str:
    """Sixteen digits that name the code behind a run's numbers: the notebook's code cells, what they import, and the lock.

    Modules of this package count where they are imported, directly or by others; those that draw and keep do not, so that
    runs stay comparable when a figure or a command is changed. Nor does prose.
    """
    import nbformat  # here: it is slow to import

    cells = nbformat.read(notebook, as_version=4).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    content = hashlib.sha256("\n".join(code).encode())
    for file in [*imported(code), paths.REPOSITORY / "requirements.lock"]:
        content.update(file.read_bytes() if file.exists() else b"")
    return content.hexdigest()[:16]


def imported(cells: list[str]) -> list[Path]:
    """Files of this package that cells import, directly or by others, wherever the statement stands; sorted."""
    from IPython.core.inputtransformer2 import TransformerManager  # here: it is slow to import

    found, todo = set(), set()
    for cell in cells:
        try:
            todo |= _modules(ast.parse(TransformerManager().transform_cell(cell)))
        except SyntaxError:
            continue  # it imports nothing: the run will fail there
    while todo:
        file = todo.pop()
        if file not in found and not any(file.is_relative_to(PACKAGE / name) for name in NO_NUMBERS):
            found.add(file)
            todo |= _modules(ast.parse(file.read_bytes()))
    return sorted(found)


def _modules(tree: ast.AST) -> set[Path]:
    """Files of this package that are named in import statements, with the packages that they lie in."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    parts = [name.split(".")[1:] for name in names if name.split(".")[0] == PACKAGE.name]
    places = {PACKAGE.joinpath(*each[:depth]) for each in parts for depth in range(len(each) + 1)}
    files = [file for place in places for file in (place.with_suffix(".py"), place / "__init__.py")]
    return {file for file in files if file.is_relative_to(PACKAGE) and file.is_file()}


def provenance() -> dict[str, Any]:
    """The state of this project and of the machine, now: taken when a run starts, lest it name a later commit."""
    import torch  # here: who only plans or looks at runs need not wait for it

    return {
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": bool(_git("status", "--porcelain", "--", "topo_utils", "requirements.lock")),
        "python": platform.python_version(),
        "packages": {package: importlib.metadata.version(package) for package in PACKAGES},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),  # processors of one name differ in them
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def last_change(file: Path) -> str:
    """Commit and day of a file's last change, in words, as git knows it."""
    known = _git("log", "-1", "--format=%h, %cs", "--", str(file))
    if not known:
        return "unknown: no history here"
    return known + ", and since then without a commit" * bool(_git("status", "--porcelain", "--", str(file)))


def _git(*arguments: str) -> str | None:
    """A git answer about this project; None without git, and where it is no repository of its own."""
    top = _ask_git("rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != paths.REPOSITORY:  # a copy inside of another repository
        return None
    return _ask_git(*arguments)


def _ask_git(*arguments: str) -> str | None:
    try:
        answer = subprocess.run(["git", *arguments], cwd=paths.REPOSITORY, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()


def _processor() -> str:
    """Model name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
