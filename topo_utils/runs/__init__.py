"""One papermill run of a notebook and its record; and all records as one table.

``python -m topo_utils.runs NOTEBOOK -f parameters.yaml -p gamma=10.0`` checks the parameters, executes the notebook and
keeps, in one folder under :func:`topo_utils.paths.runs`: ``notebook.ipynb``, ``config.json``, ``history.csv``,
``metrics.json``, the weights of each model and of F as sealed safetensors, and ``provenance.json``, which knows what each
model was made from and trained on, and the digest of every file. A run works in a folder whose name ends in ``.partial``
and is renamed when all of it is there, so what :func:`collect` counts is whole; a run that was killed goes on from its last
checkpoint when it is started again.
"""

from topo_utils.runs.execution import execute
from topo_utils.runs.origin import code_digest, last_change, provenance
from topo_utils.runs.parameters import declared_parameters, name_of, read_parameters, resolve
from topo_utils.runs.record import FOLDER, Record, RunError, collect, folder, progress, save, table
from topo_utils.runs.results import clean, keep, publish

__all__ = [
    "FOLDER",
    "Record",
    "RunError",
    "clean",
    "code_digest",
    "collect",
    "declared_parameters",
    "execute",
    "folder",
    "keep",
    "last_change",
    "name_of",
    "progress",
    "provenance",
    "publish",
    "read_parameters",
    "resolve",
    "save",
    "table",
]
