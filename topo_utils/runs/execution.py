"""One run: a notebook executed by papermill in a folder that becomes its record when all of it is there."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import filelock

from topo_utils import paths
from topo_utils.runs.origin import code_digest, provenance
from topo_utils.runs.parameters import as_papermill_path, record_name, resolve
from topo_utils.runs.record import (
    CONFIG,
    FOLDER,
    METRICS,
    PARTIAL,
    RETIRED,
    Record,
    RunError,
    seal_record,
    write_json,
)

STARTED = "started.json"


def execute(notebook: Path, given: Mapping[str, Any] | None = None, resume: bool = True, skip_done: bool = False) -> Path:
    """Run a notebook with some parameters changed, and keep its record.

    What an interrupted run of the same parameters and code left behind is taken up, unless ``resume`` is False. With
    ``skip_done`` nothing is run where there is a whole record already, of the same code and the same data; and where the
    same run is under way elsewhere, its end is waited for: so a repetition does no harm, and a batch engine may repeat.

    Returns
    -------
    Path
        The record's folder, named as :func:`name_of` says.

    Raises
    ------
    ConfigError
        A parameter is wrong; nothing was started and nothing written.
    RunError
        The notebook failed (it is kept for reading), the same run is under way elsewhere and not waited for, or nothing can
        be written there.
    """
    notebook, given = Path(notebook), dict(given or {})
    values = resolve(notebook, given)
    name = record_name(notebook.stem, values)
    record, staging = paths.runs() / name, paths.runs() / (name + PARTIAL)
    try:
        paths.runs().mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(paths.runs() / f".{name}.lock", timeout=-1 if skip_done else 0):
            _recover(record)
            if skip_done and _is_done(record, notebook):
                print("this run is done: its record is whole, and of the same code and data", flush=True)
                return record
            _prepare(staging, notebook, values, resume)
            start = time.perf_counter()
            _execute_notebook(notebook, staging, given)
            _finish(staging, time.perf_counter() - start)
            _promote(staging, record)
    except filelock.Timeout:
        raise RunError(f"this very run is under way in another process: {staging}") from None
    except OSError as error:
        raise RunError(
            f"the record cannot be written: {error}; TOPO_HOME names another place than {paths.home()}"
        ) from error
    return record


def _is_done(path: Path, notebook: Path) -> bool:
    try:
        record = Record(path)
        return record.provenance["code"] == code_digest(notebook) and record.has_its_data()
    except RunError:
        return False


def _prepare(staging: Path, notebook: Path, values: dict[str, Any], resume: bool) -> None:
    """The folder to work in. What an interrupted run left there is kept when its code and its parameters are the same."""
    code = code_digest(notebook)
    config = {"notebook": notebook.stem, "parameters": values}
    try:
        before = json.loads((staging / STARTED).read_text())
        same = resume and before["code"] == code and json.loads((staging / CONFIG).read_text()) == config
    except (OSError, ValueError, KeyError, TypeError):
        same = False
    if staging.exists() and not same:
        shutil.rmtree(staging)
    elif same:
        print(f"going on with the interrupted run in {staging}", flush=True)
    staging.mkdir(exist_ok=True)
    write_json(staging / STARTED, {"notebook": notebook.name, "code": code, **provenance(), "resumed": same})
    write_json(staging / CONFIG, config)


def _execute_notebook(notebook: Path, staging: Path, given: dict[str, Any]) -> None:
    """Execute with papermill, the printed lines shown; a failed notebook stays in ``staging`` for reading."""
    import papermill  # here: it is slow to import, and what runs in a kernel has no use for it
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    output = staging / "notebook.ipynb"
    before = os.environ.get(FOLDER)
    os.environ[FOLDER] = str(staging)  # the kernel inherits it
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # idle threads that spin stall each other on a busy machine
    try:
        # The kernel is talked to through files of its own. Of ports two kernels that start at one moment can pick the same:
        # the one that comes too late dies, and its run would wait for it for ever. Names of
        # sockets have 103 bytes at most, here and on macOS: a long TMPDIR is no place for them.
        short = None if len(os.fsencode(tempfile.gettempdir())) <= 75 else "/tmp"
        with tempfile.TemporaryDirectory(prefix="topo-", dir=short) as sockets:
            papermill.execute_notebook(
                as_papermill_path(notebook),
                as_papermill_path(output),
                parameters=given,
                kernel_name="python3",
                progress_bar=False,
                stdout_file=sys.stdout,
                # it reports the sockets that are gone after Ctrl-C
                extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
                config=Config({"KernelManager": {"transport": "ipc", "ip": f"{sockets}/kernel"}}),
            )
    except PapermillExecutionError as error:
        raise RunError(
            f"{notebook.name}, cell [{error.exec_count}]: {error.ename}: {error.evalue}\nthe notebook is kept in {output}"
        ) from None
    except (OSError, RuntimeError) as error:
        raise RunError(f"{notebook.name}: {type(error).__name__}: {error}") from error
    finally:
        os.environ.pop(FOLDER)
        if before is not None:
            os.environ[FOLDER] = before


def _finish(staging: Path, seconds: float) -> None:
    """Complete the record: provenance, and no more checkpoints. A notebook that measures nothing has no metrics rows."""
    for checkpoint in staging.rglob("*.ckpt"):
        checkpoint.unlink()
    if not (staging / METRICS).exists():
        write_json(staging / METRICS, [])
    started = json.loads((staging / STARTED).read_text())
    (staging / STARTED).unlink()
    seal_record(staging, {**started, "wall_seconds": round(seconds, 1)})


def _promote(staging: Path, record: Path) -> None:
    """Put the whole record in the place of an older one."""
    retired = record.with_name(record.name + RETIRED)
    if record.exists():
        os.replace(record, retired)
    os.replace(staging, record)
    shutil.rmtree(retired, ignore_errors=True)
    Record(record)  # what was written can be read


def _recover(record: Path) -> None:
    """Undo a promotion that was killed half-way."""
    retired = record.with_name(record.name + RETIRED)
    if retired.exists() and not record.exists():
        os.replace(retired, record)
    shutil.rmtree(retired, ignore_errors=True)
