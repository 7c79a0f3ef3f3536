"""Inception-v3 as FID has it, where its weights are: only with them is a Fréchet distance an FID."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from topo_utils import paths

if TYPE_CHECKING:
    from jaxtyping import Float

FOLDER, FILE = "inception", "weights-inception-2015-12-05-6726825d.pth"


class Inception(nn.Module):
    """The network of Heusel et al., NeurIPS 2017, as ported by torch-fidelity: 2,048 features of its last pooling layer.

    Nothing is downloaded: the weights are a file of 91 MB that torch-fidelity's releases hold.

    Parameters
    ----------
    weights
        Their file; None: see :meth:`file`.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ModuleNotFoundError
        The package torch-fidelity is not installed.
    """

    def __init__(self, weights: Path | None = None):
        super().__init__()
        weights = self.file() if weights is None else weights
        if weights is None or not weights.is_file():
            looked = weights or " nor in ".join(map(str, paths.places(FOLDER)))
            raise FileNotFoundError(
                f"weights: wanted the Inception-v3 of FID, {FILE}, which is not in {looked}. Take it from the releases of "
                f"torch-fidelity, and put it into a folder '{FOLDER}' in one that TOPO_DATA names"
            )
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "FID is computed by the package torch-fidelity: pip install torch-fidelity"
            ) from error
        self.network = FeatureExtractorInceptionV3(FOLDER, ["2048"], feature_extractor_weights_path=str(weights)).eval()
        self.requires_grad_(False)

    @staticmethod
    def file() -> Path | None:
        """The first such file in the folders of data, ``inception/weights-inception-2015-12-05-6726825d.pth``; or None."""
        return next((place / FILE for place in paths.places(FOLDER) if (place / FILE).is_file()), None)

    def features(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch 2048"]:
        """Of images with one or three channels in [0, 1], which are rounded to 8 bits and scaled to 299 × 299.

        Raises
        ------
        ValueError
            The items are no such images.
        """
        if x.ndim != 4 or x.shape[1] not in (1, 3) or x.amin() < 0 or x.amax() > 1:
            raise ValueError(f"x: wanted images (batch, 1 or 3, h, w) in [0, 1], got {tuple(x.shape)}")
        return self.network((x.expand(-1, 3, -1, -1) * 255).round().to(torch.uint8))[0]
