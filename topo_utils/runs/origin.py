"""Where a result comes from: code, packages, machine."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import nbformat

from topo_utils import paths

PACKAGES = ("torch", "torchvision", "lightning", "numpy", "ripser", "persim", "torchmetrics", "papermill")


def code_digest(notebook: Path) -> str:
    """Sixteen digits that name the code of a run: the notebook's code cells, this package, and the lock; not the prose."""
    cells = nbformat.read(notebook, as_version=4).cells
    content = hashlib.sha256("\n".join(cell.source for cell in cells if cell.cell_type == "code").encode())
    package = Path(__file__).parents[1]
    for file in [*sorted(package.rglob("*.py")), paths.REPOSITORY / "requirements.lock"]:
        content.update(file.read_bytes() if file.exists() else b"")
    return content.hexdigest()[:16]


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
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
    }


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
