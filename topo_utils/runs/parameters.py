"""The parameters of a run: what a notebook declares, what a file or a command line says, and whether it fits."""

from __future__ import annotations

import ast
import hashlib
import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import create_model

from topo_utils.config import ConfigError, RunConfig, Strict
from topo_utils.runs.record import RunError


class _Literal(yaml.SafeLoader):
    """YAML whose plain words mean what they look like, as in YAML 1.2: ``no`` is a word, ``1e-3`` a number, ``1:30`` and
    ``012`` are words, and a key that stands twice is an error.
    """

    yaml_implicit_resolvers: dict = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for place, key in enumerate(keys):
            if key in keys[:place]:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


for kind, pattern in {
    "bool": r"true|True|TRUE|false|False|FALSE",
    "null": r"null|Null|NULL|~|",
    "int": r"[-+]?(0|[1-9][0-9]*)",
    "float": r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
}.items():
    _Literal.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", re.compile(f"^(?:{pattern})$"), None)
_Literal.add_constructor(
    "tag:yaml.org,2002:float",
    lambda loader, node: float(re.sub(r"\.(?=inf|nan)", "", loader.construct_scalar(node).lower())),
)
_Literal.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(loader.construct_scalar(node)))


def parse(text: str) -> Any:
    """A YAML value; raises :class:`yaml.YAMLError`."""
    return yaml.load(text, _Literal)


def declared_parameters(notebook: Path) -> dict[str, Any]:
    """Parameters that a notebook declares in its cell tagged ``parameters``, with their default values.

    Raises
    ------
    RunError
        The notebook is missing, cannot be read, or declares something else than literals.
    """
    return {name: value for name, (value, _) in described_parameters(notebook).items()}


def described_parameters(notebook: Path) -> dict[str, tuple[Any, str]]:
    """:func:`declared_parameters`, each with the comment behind it."""
    import nbformat  # here: both are slow to import
    import papermill

    notebook = Path(notebook)
    if not notebook.is_file():
        raise RunError(f"there is no notebook '{notebook}'")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # nbformat's remarks on old notebooks
            found = papermill.inspect_notebook(as_papermill_path(notebook))
        return {name: (ast.literal_eval(each["default"]), each["help"] or "") for name, each in found.items()}
    except (ValueError, SyntaxError, nbformat.reader.NotJSONError, nbformat.ValidationError) as error:
        raise RunError(f"the parameters of '{notebook}' cannot be read: {error}") from error


def as_papermill_path(file: Path) -> str:
    """A path for papermill, which would take braces for places to put parameters in."""
    return str(file).replace("{", "{{").replace("}", "}}")


def read_parameters(file: Path) -> dict[str, Any]:
    """Parameters in a YAML file.

    Raises
    ------
    ConfigError
        The file is missing, or is not a YAML mapping of names to values, each name once.
    """
    try:
        content = parse(Path(file).read_text())
    except OSError as error:
        raise ConfigError(f"the parameter file '{file}' cannot be read: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"the parameter file '{file}' is not YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ConfigError(f"the parameter file '{file}': wanted lines 'name: value', got {content!r}")
    return content


def assignments(texts: list[str]) -> dict[str, Any]:
    """``NAME=VALUE`` of a command line as parameters; the value is read as YAML."""
    parameters = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise ConfigError(f"-p: wanted NAME=VALUE, got {text!r}")
        if name in parameters:
            raise ConfigError(f"-p {name}: given twice")
        try:
            parameters[name] = parse(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"-p {name}: {value!r} is not a YAML value: {' '.join(str(error).split())}") from error
    return parameters


def resolve(notebook: Path, given: Mapping[str, Any]) -> dict[str, Any]:
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
    values = create_model("parameters", __base__=Strict, **fields)(**{**defaults, **given}).model_dump()
    schema(**{name: value for name, value in values.items() if name in known})
    return values


def name_of(notebook: Path, given: Mapping[str, Any] | None = None) -> str:
    """Name of the record that :func:`execute` will make in :func:`topo_utils.paths.runs`, before it is made.

    Raises
    ------
    ConfigError, RunError
        As :func:`resolve` and :func:`declared_parameters` raise them.
    """
    return record_name(Path(notebook).stem, resolve(notebook, given or {}))


def record_name(stem: str, values: Mapping[str, Any]) -> str:
    """The notebook, the data set, the seed and a digest of all parameters, of which the name has 48 bits."""
    text = json.dumps(values, sort_keys=True)
    parts = [
        *([values["dataset"]] if values.get("dataset") else []),
        stem,
        *([f"seed{values['seed']}"] if "seed" in values else []),
        hashlib.sha256(text.encode()).hexdigest()[:12],
    ]
    return "-".join(parts)


def _schema(notebook: Path) -> type[RunConfig]:
    """The configuration that the notebook makes of its parameters; what all have in common, when it makes none."""
    import nbformat

    cells = nbformat.read(notebook, as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    return next((kind for kind in RunConfig.__subclasses__() if f"{kind.__name__}(" in code), RunConfig)
