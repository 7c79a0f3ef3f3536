"""One papermill run of a notebook and its record; and all records as one table.

``python -m topo_utils.runs NOTEBOOK -f parameters.yaml -p gamma=10.0`` checks the parameters, executes the notebook and
keeps, in one folder under :func:`topo_utils.paths.runs`: ``notebook.ipynb``, ``config.json``, ``history.csv``,
``metrics.json``, the weights as safetensors, and ``provenance.json``. A run works in a folder whose name ends in
``.partial`` and is renamed when all of it is there, so what :func:`collect` counts is whole; a run that was killed goes on
from its last checkpoint when it is started again.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import filelock
import nbformat
import pandas as pd
import papermill
import torch
import yaml
from papermill.exceptions import PapermillExecutionError
from pydantic import create_model

from topo_utils import paths
from topo_utils.config import ConfigError, DiffusionConfig, RunConfig, Strict, VAEConfig

FOLDER, PARTIAL, RETIRED = "TOPO_RUN_FOLDER", ".partial", ".retired"
PACKAGES = ("torch", "torchvision", "lightning", "numpy", "ripser", "persim", "torchmetrics", "papermill")
#: What each metric is, for tables.
DESCRIPTIONS = {
    "reconstruction_error": "reconstruction error, squared, an item (lower is better)",
    "reconstruction_nats": "reconstruction term, nats (lower)",
    "kl": "KL to the prior, nats",
    "active_units": "active latent dimensions",
    "interpolation_cycle_error": "cycle error on linear latent paths (lower)",
    "frechet_classifier": "Fréchet distance of samples in the judge's features (lower)",
    "frechet_classifier_floor": "… its floor: two halves of the real data",
    "confident_samples": "samples the judge is ≥ 90 % sure of, share",
    "bottleneck_h0": "bottleneck distance data-samples, H0 (lower)",
    "bottleneck_h0_floor": "… its floor: two clouds of real data, H0",
    "bottleneck_h1": "bottleneck distance data-samples, H1 (lower)",
    "bottleneck_h1_floor": "… its floor: two clouds of real data, H1",
    "valid": "valid molecules among the samples, before any repair, share",
    "unique": "different ones among the valid, share",
    "novel": "unknown ones among the different, share",
    "bond_error": "error of the distances of neighbouring Cα, Å (lower)",
    "nearest_rmsd": "RMSD to the nearest training frame, Å",
    "connected": "connected graphs among the samples, share",
    "degree_distance": "1-Wasserstein distance of degrees (lower)",
    "clustering_distance": "1-Wasserstein distance of clustering coefficients (lower)",
    "off_manifold": "distance of samples from the manifold, mean (lower)",
    "betti_accuracy": "masks with the wanted Betti number, share",
    "betti_precision": "precision, the mean over the wanted numbers",
    "betti_recall": "recall, the mean over the wanted numbers",
    "betti_f1": "F1, the mean over the wanted numbers",
    "betti_mean_absolute_error": "error of the Betti number, absolute (lower)",
}


class RunError(RuntimeError):
    """A run cannot start or has failed; the message is for the person who started it."""


# --- in a notebook ---------------------------------------------------------------------------------------------------


def folder() -> Path:
    """Folder of the run that executes this notebook; a scratch folder when somebody works in it by hand."""
    if given := os.environ.get(FOLDER):
        return Path(given)
    scratch = Path(tempfile.mkdtemp(prefix="topo-run-"))
    print(f"no batch run: results go to {scratch}, which you may delete")
    return scratch


def progress() -> str:
    """How training shows its progress: plain lines in a run, a moving bar when somebody works by hand."""
    return "lines" if FOLDER in os.environ else "bar"


def save(folder: Path, metrics: list[dict[str, Any]], histories: dict[str, pd.DataFrame], models: dict[str, Any]) -> None:
    """Write a notebook's results into its run's folder; ``metrics.json`` comes last.

    Parameters
    ----------
    folder
        From :func:`folder`.
    metrics
        A row a model: its name under ``"model"``, parameters in which it differs from the run's, its metrics.
    histories
        For each model a row an epoch.
    models
        The trained networks, by the names of their files.
    """
    from safetensors.torch import save_file

    for name, model in models.items():
        with paths.atomic(folder / f"{name}.safetensors") as scratch:
            save_file(model.state_dict(), scratch, metadata={"shape": json.dumps(model.shape)})
            scratch.chmod(0o644)  # safetensors lets nobody else read it
    if histories:
        rows = pd.concat([history.assign(model=name) for name, history in histories.items()])
        with paths.atomic(folder / "history.csv") as scratch:
            rows.set_index(["model", "epoch"]).to_csv(scratch)
    _write_json(folder / "metrics.json", metrics)


def load_model(record: Path, name: str) -> Any:
    """A trained model of a record, in evaluation mode on the CPU; nothing is unpickled.

    Parameters
    ----------
    record
        Folder of the run.
    name
        The model's name in the comparison table, which is that of its file.

    Raises
    ------
    RunError
        The record, or the model in it, is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    from topo_utils.training import untrained  # here: Lightning takes seconds to import

    file = Path(record) / f"{name}.safetensors"
    try:
        parameters = json.loads((Path(record) / "config.json").read_text())["parameters"]
        with safe_open(file, "pt") as opened:
            shape = tuple(json.loads(opened.metadata()["shape"]))
            weights = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
        schema = DiffusionConfig if "sigma_data" in weights else VAEConfig
        config = schema(**{key: value for key, value in parameters.items() if key in schema.model_fields})
        classed = weights.get("network.conditioning.classed.weight")
        model = untrained(config, shape, None if classed is None else len(classed))
        model.load_state_dict(weights)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        there = ", ".join(sorted(each.stem for each in Path(record).glob("*.safetensors"))) or "none"
        raise RunError(f"'{file}' cannot be loaded ({type(error).__name__}: {error}); models there: {there}") from error
    return model.eval()


# --- one run ---------------------------------------------------------------------------------------------------------


def declared_parameters(notebook: Path) -> dict[str, Any]:
    """Parameters that a notebook declares in its cell tagged ``parameters``, with their default values.

    Raises
    ------
    RunError
        The notebook is missing, cannot be read, or declares something else than literals.
    """
    if not notebook.is_file():
        raise RunError(f"there is no notebook '{notebook}'")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # nbformat's remarks on old notebooks
            found = papermill.inspect_notebook(str(notebook))
        return {name: ast.literal_eval(parameter["default"]) for name, parameter in found.items()}
    except (ValueError, SyntaxError, nbformat.reader.NotJSONError, nbformat.ValidationError) as error:
        raise RunError(f"the parameters of '{notebook}' cannot be read: {error}") from error


def read_parameters(file: Path) -> dict[str, Any]:
    """Parameters in a YAML file.

    Raises
    ------
    ConfigError
        The file is missing, or is not a YAML mapping of names to values.
    """
    try:
        content = yaml.safe_load(file.read_text())
    except OSError as error:
        raise ConfigError(f"the parameter file '{file}' cannot be read: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"the parameter file '{file}' is not YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ConfigError(f"the parameter file '{file}': wanted lines 'name: value', got {content!r}")
    return content


def resolve(notebook: Path, given: dict[str, Any]) -> Strict:
    """All parameters of a run: the notebook's defaults with ``given`` in their place, names, types and ranges checked.

    Names that the notebook's configuration knows are checked as it checks them, one by one and together; others must have
    the type of their default.

    Raises
    ------
    ConfigError
        The message names the parameter.
    """
    defaults, schema = declared_parameters(notebook), _schema(notebook)
    known = schema.model_fields
    fields = {
        name: (known[name].annotation, known[name]) if name in known else (Any if value is None else type(value), value)
        for name, value in defaults.items()
    }
    values = create_model("parameters", __base__=Strict, **fields)(**{**defaults, **given})
    schema(**{name: value for name, value in values.model_dump().items() if name in known})
    return values


def _schema(notebook: Path) -> type[RunConfig]:
    """The configuration that the notebook makes of its parameters; what all have in common, when it makes none."""
    cells = nbformat.read(notebook, as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    return next((kind for kind in RunConfig.__subclasses__() if f"{kind.__name__}(" in code), RunConfig)


def execute(notebook: Path, given: dict[str, Any] | None = None, resume: bool = True) -> Path:
    """Run a notebook with some parameters changed, and keep its record.

    What an interrupted run of the same parameters and code left behind is taken up, unless ``resume`` is False.

    Returns
    -------
    Path
        The record's folder, named by the notebook, the data set, the seed and a digest of all parameters.

    Raises
    ------
    ConfigError
        A parameter is wrong; nothing was started and nothing written.
    RunError
        The notebook failed (it is kept for reading), the same run is under way elsewhere, or nothing can be written there.
    """
    notebook, given = Path(notebook), given or {}
    parameters = resolve(notebook, given)
    values = parameters.model_dump()
    name = "-".join(
        [
            *([values["dataset"]] if "dataset" in values else []),
            notebook.stem,
            *([f"seed{values['seed']}"] if "seed" in values else []),
            parameters.digest(),
        ]
    )
    record, staging = paths.runs() / name, paths.runs() / (name + PARTIAL)
    try:
        paths.runs().mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(paths.runs() / f".{name}.lock", timeout=0):
            _recover(record)
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


def _prepare(staging: Path, notebook: Path, values: dict[str, Any], resume: bool) -> None:
    """The folder to work in. What an interrupted run left there is kept only when the same code made it."""
    started = {"notebook": notebook.name, "code": code_digest(notebook)}
    try:
        before = json.loads((staging / "started.json").read_text())
        same = resume and {name: before[name] for name in started} == started
    except (OSError, ValueError, KeyError, TypeError):
        same = False
    if staging.exists() and not same:
        shutil.rmtree(staging)
    elif same:
        print(f"going on with the interrupted run in {staging}", flush=True)
    staging.mkdir(exist_ok=True)
    _write_json(staging / "started.json", {**started, "resumed": same})
    _write_json(staging / "config.json", {"notebook": notebook.stem, "parameters": values})


def _execute_notebook(notebook: Path, staging: Path, given: dict[str, Any], attempts: int = 3) -> None:
    """Execute with papermill, the printed lines shown; a failed notebook stays in ``staging`` for reading."""
    output = staging / "notebook.ipynb"
    before = os.environ.get(FOLDER)
    os.environ[FOLDER] = str(staging)  # the kernel inherits it
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # idle threads that spin stall each other on a busy machine
    try:
        papermill.execute_notebook(
            str(notebook),
            str(output),
            parameters=given,
            kernel_name="python3",
            progress_bar=False,
            stdout_file=sys.stdout,
            extra_arguments=["--IPKernelApp.log_level=ERROR"],  # it warns of unencrypted sockets on this very machine
        )
    except PapermillExecutionError as error:
        raise RunError(
            f"{notebook.name}, cell [{error.exec_count}]: {error.ename}: {error.evalue}\nthe notebook is kept in {output}"
        ) from None
    except (OSError, RuntimeError) as error:
        # two kernels that start at the same moment can pick the same port
        if attempts > 1 and "Address already in use" in str(error):
            return _execute_notebook(notebook, staging, given, attempts - 1)
        raise RunError(f"{notebook.name}: {type(error).__name__}: {error}") from error
    finally:
        os.environ.pop(FOLDER)
        if before is not None:
            os.environ[FOLDER] = before


def _finish(staging: Path, seconds: float) -> None:
    """Complete the record: provenance, and no more checkpoints. A notebook that measures nothing has no metrics rows."""
    for checkpoint in staging.rglob("*.ckpt"):
        checkpoint.unlink()
    if not (staging / "metrics.json").exists():
        _write_json(staging / "metrics.json", [])
    started = json.loads((staging / "started.json").read_text())
    _write_json(staging / "provenance.json", {**started, **provenance(), "wall_seconds": round(seconds, 1)})
    (staging / "started.json").unlink()


def _promote(staging: Path, record: Path) -> None:
    """Put the whole record in the place of an older one."""
    retired = record.with_name(record.name + RETIRED)
    if record.exists():
        os.replace(record, retired)
    os.replace(staging, record)
    shutil.rmtree(retired, ignore_errors=True)


def _recover(record: Path) -> None:
    """Undo a promotion that was killed half-way."""
    retired = record.with_name(record.name + RETIRED)
    if retired.exists() and not record.exists():
        os.replace(retired, record)
    shutil.rmtree(retired, ignore_errors=True)


def code_digest(notebook: Path) -> str:
    """Eight digits that name the code of a run: the notebook's code cells, this package, and the lock; not the prose."""
    cells = nbformat.read(notebook, as_version=4).cells
    content = hashlib.sha256("\n".join(cell.source for cell in cells if cell.cell_type == "code").encode())
    sources = sorted(Path(__file__).parent.rglob("*.py"))
    for file in [*sources, paths.REPOSITORY / "requirements.lock"]:
        content.update(file.read_bytes() if file.exists() else b"")
    return content.hexdigest()[:8]


def provenance() -> dict[str, Any]:
    """Where a result comes from: commit, versions, machine."""
    cuda = torch.cuda.is_available()
    return {
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": bool(_git("status", "--porcelain", "--", "topo_utils", "requirements.lock")),
        "python": platform.python_version(),
        "packages": {package: importlib.metadata.version(package) for package in PACKAGES},
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _git(*arguments: str) -> str | None:
    """A git answer; None outside a repository or without git."""
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


def _write_json(file: Path, content: Any) -> None:
    with paths.atomic(file) as scratch:
        scratch.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")


# --- all runs --------------------------------------------------------------------------------------------------------


def collect(root: Path | None = None) -> pd.DataFrame:
    """All records in one tidy table: a row a run and model, with parameters and metrics as columns.

    Runs that are under way or were interrupted are not counted. A damaged record is named in a warning and skipped. A run
    that was resumed has no ``wall_seconds``, since only its last leg was timed.

    Parameters
    ----------
    root
        Folder of the records; None: :func:`topo_utils.paths.runs`.
    """
    root = paths.runs() if root is None else Path(root)
    rows = []
    for record in sorted(root.glob("*")):
        if not record.is_dir() or record.suffix in (PARTIAL, RETIRED):
            continue
        try:
            rows += _rows(record)
        except (OSError, ValueError, KeyError, TypeError) as error:
            warnings.warn(f"the record {record} is damaged and is left out ({type(error).__name__}: {error})", stacklevel=2)
    return pd.DataFrame(rows)


def _rows(record: Path) -> list[dict[str, Any]]:
    """Rows of one record; raises when a part is missing or cannot be read."""
    config, metrics, origin = (
        json.loads((record / file).read_text()) for file in ("config.json", "metrics.json", "provenance.json")
    )
    if not isinstance(metrics, list):
        raise TypeError(f"metrics.json: wanted a list of rows, got {type(metrics).__name__}")
    for row in metrics:
        for name in row.keys() & config["parameters"].keys():
            if isinstance(row[name], str) != isinstance(config["parameters"][name], str):
                raise ValueError(f"metrics.json: '{name}' is a parameter, {config['parameters'][name]!r}, and not a metric")
    shared = {"run": record.name, "notebook": config["notebook"], **config["parameters"]}
    seconds = float("nan") if origin["resumed"] else origin["wall_seconds"]  # of a resumed run, only the last leg is timed
    return [{**shared, **row, "wall_seconds": seconds} for row in metrics]


def table(metrics: list[dict[str, Any]]) -> pd.DataFrame:
    """Comparison table of one run: a row a metric, described in words, a column a model."""
    described = {row["model"]: {text: row[name] for name, text in DESCRIPTIONS.items() if name in row} for row in metrics}
    return pd.DataFrame(described)


# --- the committed results -------------------------------------------------------------------------------------------


def publish(notebook: Path, record: Path) -> None:
    """Keep an executed notebook in its place, its table and pictures in ``data/results``, its run time in README."""
    origin = json.loads((record / "provenance.json").read_text())
    executed = clean(nbformat.read(record / "notebook.ipynb", as_version=4))
    measured = f"{origin['wall_seconds']:.0f} s with the defaults on {origin['cores']} cores of {origin['processor']}"
    for cell in executed.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"(?<=^> \*\*Time\*\* · ).*", measured, cell.source, flags=re.MULTILINE)
    readme = (paths.REPOSITORY / "README.md").read_text()
    row = rf"(?<=^\| )(\[{notebook.stem}\]\(.*\) \| .* \|) .* (?=\|$)"
    readme = re.sub(row, rf"\1 {origin['wall_seconds']:.0f} s ", readme, flags=re.MULTILINE)
    contents = {
        notebook: nbformat.writes(executed).rstrip("\n").encode() + b"\n",
        paths.RESULTS / f"{notebook.stem}.provenance.json": (record / "provenance.json").read_bytes(),
        paths.REPOSITORY / "README.md": readme.encode(),
    }
    rows = pd.DataFrame(_rows(record)).drop(columns="wall_seconds", errors="ignore")
    if len(rows):
        contents[paths.RESULTS / f"{notebook.stem}.csv"] = rows.to_csv(index=False).encode()
    for picture in record.glob("*.png"):
        contents[paths.RESULTS / f"{notebook.stem}-{picture.name}"] = picture.read_bytes()
    for file, content in contents.items():
        with paths.atomic(file) as scratch:
            scratch.write_bytes(content)


def keep(name: str, records: list[Path]) -> Path:
    """Keep the table of several runs, and where each comes from, in ``data/results``; returns the table's file.

    Raises
    ------
    RunError
        A record is missing or damaged, or the name is a path or that of a notebook; nothing was written.
    """
    if not re.fullmatch(r"\w[\w.-]*", name) or name in {file.stem for file in paths.NOTEBOOKS.rglob("*.ipynb")}:
        raise RunError(f"--keep: wanted a plain name that no notebook has, got {name!r}")
    rows, origins = [], []
    for record in records:
        try:
            rows += _rows(record)
            origins.append({"run": record.name, **json.loads((record / "provenance.json").read_text())})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"'{record}' is no whole record of a run ({type(error).__name__}: {error})") from error
    table = pd.DataFrame(rows).drop(columns="wall_seconds", errors="ignore").dropna(axis=1, how="all")
    with paths.atomic(paths.RESULTS / f"{name}.csv") as scratch:
        table.to_csv(scratch, index=False)
    _write_json(paths.RESULTS / f"{name}.provenance.json", origins)
    return paths.RESULTS / f"{name}.csv"


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


# --- the command -----------------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """The command ``python -m topo_utils.runs``; returns its exit code: 0, 1 for a failed run, 2 for wrong parameters."""
    parser = argparse.ArgumentParser(prog="python -m topo_utils.runs", description="Run notebooks and keep their records.")
    parser.add_argument("notebooks", nargs="+", type=Path, metavar="NOTEBOOK")
    parser.add_argument("-f", "--file", type=Path, help="YAML file of parameters, such as notebooks/params/smoke/…")
    parser.add_argument("-p", "--parameter", action="append", default=[], metavar="NAME=VALUE", help="one parameter")
    parser.add_argument(
        "--publish", action="store_true", help="write the executed notebooks back, and their tables into data/results"
    )
    parser.add_argument(
        "--keep",
        metavar="TABLE",
        help="run nothing: collect records, given in place of notebooks, in data/results/TABLE.csv",
    )
    options = parser.parse_args(arguments)
    if options.keep and (options.publish or options.file or options.parameter):
        parser.error("--keep runs nothing: it goes with records alone")
    if options.publish and (options.file or options.parameter):
        parser.error("--publish keeps the run with the defaults: it goes with neither -f nor -p")
    try:
        if options.keep:
            print(keep(options.keep, options.notebooks))
            return 0
        given = {**(read_parameters(options.file) if options.file else {}), **_assignments(options.parameter)}
        for notebook in options.notebooks:
            resolve(notebook, given)  # all of them are checked before the first one starts
        for notebook in options.notebooks:
            record = execute(notebook, given, resume=not options.publish)
            if options.publish:
                publish(notebook, record)
            _report(record)
    except (ConfigError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


def _assignments(texts: list[str]) -> dict[str, Any]:
    """``NAME=VALUE`` as parameters; the value is read as YAML."""
    parameters = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise ConfigError(f"-p: wanted NAME=VALUE, got {text!r}")
        try:
            parameters[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"-p {name}: {value!r} is not a YAML value: {' '.join(str(error).split())}") from error
    return parameters


def _report(record: Path) -> None:
    metrics = json.loads((record / "metrics.json").read_text())
    described = table(metrics)
    if len(described):
        print("\n" + described.to_string(float_format="{:.4g}".format), end="\n\n")
    origin = json.loads((record / "provenance.json").read_text())
    when = " since it was resumed" if origin["resumed"] else ""
    print(f"{origin['wall_seconds']:.0f} s{when}. The executed notebook is {record / 'notebook.ipynb'}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
