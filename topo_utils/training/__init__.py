"""Training on Lightning: one function, :func:`fit`, for every family of models in :mod:`families`."""

from topo_utils.training.families import FAMILIES, Specification
from topo_utils.training.loader import Batch, Batches, Loader
from topo_utils.training.module import DivergenceError, Training
from topo_utils.training.trainer import CHECKPOINT, Trained, device_of, fit

__all__ = [
    "CHECKPOINT",
    "FAMILIES",
    "Batch",
    "Batches",
    "DivergenceError",
    "Loader",
    "Specification",
    "Trained",
    "Training",
    "device_of",
    "fit",
]
