"""What a run leaves behind: written by the notebook, read by whoever compares runs."""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
import warnings
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from topo_utils import paths, sealed
from topo_utils.metrics import FACTORS, described

if TYPE_CHECKING:
    from torch import nn

    from topo_utils.config import RunConfig
    from topo_utils.datasets import Dataset
    from topo_utils.training import Specification, Trained

FOLDER, PARTIAL, RETIRED = "TOPO_RUN_FOLDER", ".partial", ".retired"
CONFIG, METRICS, HISTORY, MODELS, PROVENANCE = (
    *("config.json", "metrics.json", "history.csv", "models.json", "provenance.json"),
)
FEATURES = "features"  # the name of F among the weights


class RunError(RuntimeError):
    """A run cannot start or has failed, or its record is not whole; the message is for the person who asked."""


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


def save(
    folder: Path,
    metrics: list[dict[str, Any]],
    trained: Mapping[str, Trained] | None = None,
    features: nn.Module | None = None,
    data: Iterable[Dataset] = (),
) -> None:
    """Write a notebook's results into its run's folder; ``metrics.json`` comes last.

    Parameters
    ----------
    folder
        From :func:`folder`.
    metrics
        A row a model: its name under ``"model"``, what else tells the row from others (see
        :data:`topo_utils.metrics.FACTORS`), and metrics of :data:`topo_utils.metrics.METRICS`.
    trained
        What :func:`topo_utils.training.fit` gave, by the names of the models.
    features
        F.
    data
        Splits that were used besides those that the models were trained on.

    Raises
    ------
    ValueError
        A row without a model, a metric that is not in the table or not a finite number, weights that are not finite.
    """
    trained = trained or {}
    check_rows(metrics)
    models = {}
    for name, each in trained.items():
        weights = sealed.write(folder / f"{name}.safetensors", each.model.state_dict())
        seconds = float(each.history["seconds"].median())
        models[name] = {**each.specification.written(), **each.origin, "weights": weights, "epoch_seconds": seconds}
    if features is not None:
        from topo_utils.models import features as networks

        networks.save(features, folder / f"{FEATURES}.safetensors")
    if trained:
        rows = pd.concat([each.history.assign(model=name) for name, each in trained.items()])
        with paths.atomic(folder / HISTORY) as scratch:
            rows.set_index(["model", "epoch"]).to_csv(scratch)
    write_json(folder / MODELS, {"models": models, "data": [each.described() for each in data]})
    write_json(folder / METRICS, metrics)


def check_rows(rows: Any) -> None:
    """Raise ValueError unless these are rows of a table of metrics."""
    if not isinstance(rows, list):
        raise ValueError(f"metrics: wanted a list of rows, got {type(rows).__name__}")
    for row in rows:
        if not isinstance(row, dict) or not isinstance(row.get("model"), str) or not row["model"]:
            raise ValueError(f"metrics: wanted rows with a name under 'model', got {row!r:.80}")
        for name, value in row.items():
            if name in FACTORS:
                continue
            described(name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"metrics: wanted a finite number for '{name}' of '{row['model']}', got {value!r}")
        if not any(name not in FACTORS for name in row):
            raise ValueError(f"metrics: wanted at least one metric of '{row['model']}', got an empty row")
    keys = [tuple(row.get(name) for name in FACTORS) for row in rows]
    if len(set(keys)) < len(keys):
        raise ValueError(f"metrics: wanted one row a model, got {len(keys)} rows for {len(set(keys))}")


def write_json(file: Path, content: Any) -> None:
    """Write JSON, whole or not at all; NaN and infinity are none."""
    with paths.atomic(file) as scratch:
        scratch.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")


def table(metrics: list[dict[str, Any]]) -> pd.DataFrame:
    """Comparison table of one run: a row a metric, described in words, a column a model."""
    columns = {}
    for row in metrics:
        name = ", ".join(str(row[factor]) for factor in FACTORS if factor in row)
        columns[name] = {described(key): value for key, value in row.items() if key not in FACTORS}
    return pd.DataFrame(columns)


# --- a record --------------------------------------------------------------------------------------------------------


class Record:
    """A whole run, as :func:`topo_utils.runs.execute` left it; each file is checked against the digest of what was written.

    Parameters
    ----------
    path
        Folder of the record.

    Attributes
    ----------
    notebook
        Name of the notebook.
    parameters
        Its parameters.
    metrics
        Rows of its table.
    provenance
        Code, packages and machine; what each model is and was trained on; digests of the files.

    Raises
    ------
    RunError
        A file is missing or has another content than was written, or the folder has another name than its parameters make:
        it is a copy.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        try:
            self.provenance = self._provenance()
            config = json.loads((self.path / CONFIG).read_text())
            self.notebook, self.parameters = config["notebook"], config["parameters"]
            self.metrics = json.loads((self.path / METRICS).read_text())
            self._check_name()
            check_rows(self.metrics)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(f"'{self.path}' is no whole record of a run ({type(error).__name__}: {error})") from error

    @property
    def name(self) -> str:
        """Name of its folder."""
        return self.path.name

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models whose weights are kept."""
        return tuple(self.provenance["models"])

    def specification(self, name: str) -> Specification:
        """All that the network of this name is made from, but for its weights."""
        from topo_utils.training import Specification  # here: Lightning takes seconds to import

        return Specification.read(self._model(name))

    def config(self, name: str) -> RunConfig:
        """Configuration of the model of this name."""
        return self.specification(name).config

    def model(self, name: str) -> nn.Module:
        """The trained model of this name, in evaluation mode on the CPU; nothing is unpickled."""
        import torch

        with torch.random.fork_rng(devices=[]):  # to make a network draws random numbers
            model = self.specification(name).build()
        weights, _ = sealed.read(self.path / f"{name}.safetensors")
        if sealed.digest(weights) != self._model(name)["weights"]:
            raise RunError(f"'{self.path / name}.safetensors' holds other weights than those that were trained")
        model.load_state_dict(weights)
        return model.eval()

    def features(self) -> nn.Module:
        """F, frozen, in evaluation mode on the CPU."""
        from topo_utils.models import features

        file = self.path / f"{FEATURES}.safetensors"
        if not file.exists():
            raise RunError(f"'{self.path}' keeps no F: its notebook saved none")
        return features.restore(file)

    def data(self, split: str) -> Dataset:
        """A split that the run used: the very same items, by their digest.

        Raises
        ------
        RunError
            The run used no such split, several, or one's own data; or the data set has other items now.
        """
        used = [each for each in self._used() if each["split"] == split]
        if not used or any(each != used[0] for each in used):
            names = sorted({f"{each['name']}/{each['split']}" for each in used}) or "none"
            raise RunError(f"split: wanted one that the run used once, got '{split}', of which there are {names}")
        return _loaded(used[0])

    def has_its_data(self) -> bool:
        """Whether all the data that the run used are there, with the same items; one's own data count as different."""
        try:
            return all(_loaded(each) is not None for each in self._used())
        except RunError:
            return False

    def _used(self) -> list[dict[str, Any]]:
        """What the provenance says of each split."""
        models = self.provenance["models"].values()
        return [each for model in models for each in (model["train"], model["validation"])] + self.provenance["data"]

    @cached_property
    def history(self) -> pd.DataFrame:
        """A row an epoch and model; empty where nothing was trained."""
        file = self.path / HISTORY
        return pd.read_csv(file) if file.exists() else pd.DataFrame()

    def rows(self) -> list[dict[str, Any]]:
        """Its part of the table of :func:`collect`."""
        shared = {"run": self.name, "notebook": self.notebook, "code": self.provenance["code"], **self.parameters}
        timed = float("nan") if self.provenance["resumed"] else self.provenance["wall_seconds"]
        return [{**shared, **self._columns(row["model"]), **row, "wall_seconds": timed} for row in self.metrics]

    def _columns(self, name: str) -> dict[str, Any]:
        """Configuration and origin of a model; nothing for rows of what was not trained in the run."""
        if name not in self.models:
            return {}
        model = self._model(name)
        return {
            **model["config"],
            "family": model["family"],
            "item_shape": "×".join(map(str, model["shape"])),
            "train_items": model["train"]["items"],
            "train_digest": model["train"]["digest"],
            "features_digest": model["features"][:16],
        }

    def _model(self, name: str) -> dict[str, Any]:
        if name not in self.models:
            raise RunError(
                f"name: wanted a model of '{self.path}', {', '.join(self.models) or 'of which it has none'}, got {name!r}"
            )
        return self.provenance["models"][name]

    def _provenance(self) -> dict[str, Any]:
        """``provenance.json``, after it and all files that it names were compared with their digests."""
        content = json.loads((self.path / PROVENANCE).read_text())
        if content.pop("digest") != digest_of(content):
            raise ValueError(f"{PROVENANCE} has another content than was written")
        for name, digest in content["files"].items():
            if hashlib.sha256((self.path / name).read_bytes()).hexdigest() != digest:
                raise ValueError(f"{name} has another content than was written")
        return content

    def _check_name(self) -> None:
        from topo_utils.runs.parameters import record_name

        wanted = record_name(self.notebook, self.parameters)
        if self.path.resolve().name != wanted or self.path.is_symlink():
            raise ValueError(f"wanted the name '{wanted}': this is a copy of that record, or a link to it")


def _loaded(about: Mapping[str, Any]) -> Dataset:
    """The split that was described so; raises RunError when it is one's own, is missing or has other items now."""
    from topo_utils.datasets import REGISTRY, DataError, load

    if about["name"] not in REGISTRY:
        raise RunError(f"'{about['name']}' is one's own data: give the items yourself, the record has only their digest")
    chosen = {key: about[key] for key in ("limit", "seed", "held_out") if key in about}
    try:
        found = load(about["name"], about["split"], **chosen)
    except DataError as error:
        raise RunError(str(error)) from error
    if found.digest != about["digest"]:
        raise RunError(
            f"{about['name']}/{about['split']} has other items now than those that the run used: "
            f"digest {found.digest}, wanted {about['digest']}"
        )
    return found


def digest_of(content: Any) -> str:
    """SHA-256 of what JSON holds, whatever its layout."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()


def seal_record(folder: Path, origin: dict[str, Any]) -> None:
    """Write ``provenance.json``: what is known of the run's origin and models, and the digests of all its files."""
    models = json.loads((folder / MODELS).read_text()) if (folder / MODELS).exists() else {"models": {}, "data": []}
    (folder / MODELS).unlink(missing_ok=True)
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    content = {
        **origin,
        **models,
        "files": {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files},
    }
    write_json(folder / PROVENANCE, {**content, "digest": digest_of(content)})


# --- all records -----------------------------------------------------------------------------------------------------


def collect(root: Path | None = None) -> pd.DataFrame:
    """All records in one tidy table: a row a run and model, with configuration, origin and metrics as columns.

    Runs that are under way or were interrupted are not counted, and a notebook that measures nothing has no row. A damaged
    record, or a copy of one, is named in a warning and left out. A run that was resumed has no ``wall_seconds``, since only
    its last leg was timed.

    Parameters
    ----------
    root
        Folder of the records; None: :func:`topo_utils.paths.runs`.
    """
    root = paths.runs() if root is None else Path(root)
    rows = []
    for path in sorted(root.glob("*")):
        if not path.is_dir() or path.name.startswith(".") or path.suffix in (PARTIAL, RETIRED):
            continue
        try:
            rows += Record(path).rows()
        except RunError as error:
            warnings.warn(f"a record is left out: {error}", stacklevel=2)
    return pd.DataFrame(rows)
