"""Small notebooks that leave records."""

from __future__ import annotations

import nbformat

PARAMETERS = """\
dataset: str = "digits"
seed: int = 0
gamma_latent: float = 0.0
epochs: int = 2
batch_size: int = 64
"""
TRAINING = """\
from topo_utils import evaluation, runs
from topo_utils.config import VAEConfig
from topo_utils.datasets import load
from topo_utils.models.features import initial_autoencoder
from topo_utils.training import fit

config = VAEConfig(dataset=dataset, seed=seed, gamma_latent=gamma_latent, epochs=epochs,
    batch_size=batch_size, latent_dimension=4)
train, validation = load(dataset, "train", limit=300), load(dataset, "validation", limit=100)
F = initial_autoencoder(train, epochs=1)
folder = runs.folder()
trained = fit(config, train, validation, F, folder / "vae", progress=runs.progress())
metrics = [{"model": "vae", **evaluation.reconstruction(trained.model, validation.items)}]
runs.save(folder, metrics, {"vae": trained}, F, [load(dataset, "test", limit=50)])
"""
QUICK = (
    "n: int = 1  # a number\nname: str = 'x'\nsize = None",
    """\
import json, os, pathlib

rows = [{"model": "vae", "kl": n * 0.5}]
pathlib.Path(os.environ["TOPO_RUN_FOLDER"], "metrics.json").write_text(json.dumps(rows))
""",
)


def write(path, *sources):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(notebook, path)
    return path
