"""One look for every figure: the style sheet, colours and names."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from topo_utils.seed import derive

STYLE = Path(__file__).with_name("style.mplstyle")
SPARE = ("#332288", "#88CCEE", "#44AA99", "#117733", "#DDCC77", "#CC6677", "#882255", "#AA4499")  # Tol's muted ones


class _Colours(dict):
    """Of models by name; one that is not listed gets a spare colour, always the same."""

    def __missing__(self, name: str) -> str:
        return SPARE[derive(0, "colour", name) % len(SPARE)]


class _Names(dict):
    """Of models as figures show them; one that is not listed is shown as it is called."""

    def __missing__(self, name: str) -> str:
        return name


COLOURS = _Colours(
    {
        "data": "#555555",
        "vae": "#0072B2",
        "beta-vae": "#009E73",
        "vae-weak-kl": "#44AA99",
        "vae-with-features-steps": "#000000",
        "vae-from-features": "#332288",
        "topovae": "#D55E00",
        "vae-distances": "#CC79A7",
        "vae-critical-edges": "#E69F00",
        "vae-critical-edges-h1": "#A65E00",
        "vae-regressed-codes": "#882255",
        "vae-energy": "#56B4E9",
        "vae-gaussian": "#999999",
        "vae-shuffled": "#BBBBBB",
        "diffusion": "#0072B2",
        "topodiffusion-lite": "#D55E00",
        "mask-diffusion": "#0072B2",
        "topodiffusionnet": "#CC79A7",
        "diffusion-betti": "#CC79A7",
    }
)
NAMES = _Names(
    {
        "data": "data",
        "vae": "VAE",
        "beta-vae": "β-VAE",
        "vae-weak-kl": "VAE, β < 1",
        "vae-with-features-steps": "VAE with F's steps, too",
        "vae-from-features": "VAE, encoder from F",
        "topovae": "TopoVAE",
        "vae-distances": "VAE + all distances",
        "vae-critical-edges": "VAE + critical edges (H0)",
        "vae-critical-edges-h1": "VAE + critical edges (H0, H1)",
        "vae-regressed-codes": "VAE + regression of F's codes",
        "vae-energy": "VAE + energy distance",
        "vae-gaussian": "VAE + L_topo to a Gaussian",
        "vae-shuffled": "VAE + L_topo to a shuffled cloud",
        "diffusion": "diffusion",
        "topodiffusion-lite": "TopoDiffusionLite",
        "mask-diffusion": "mask diffusion",
        "topodiffusionnet": "TopoDiffusionNet",
        "diffusion-betti": "diffusion + TopoDiffusionNet's loss",
    }
)
# the controls of both families look alike
COLOURS |= {name.replace("vae-", "diffusion-"): colour for name, colour in COLOURS.items() if name.startswith("vae-")}
NAMES |= {
    name.replace("vae-", "diffusion-"): text.replace("VAE", "diffusion")
    for name, text in NAMES.items()
    if name.startswith("vae-")
}
TERMS = _Names(
    {
        "reconstruction": "reconstruction / nats",
        "kl": "KL / nats",
        "noise": "error of the noise, squared, an item",
        "topological_latent": "L_topo of the latent",
        "topological_reconstruction": "L_topo of reconstructions",
        "topological_generated": "L_topo of samples",
        "topological_sample": "L_topo of single items",
        "topological_denoised": "L_topo of denoised items",
        "topological_betti": "TopoDiffusionNet's loss",
    }
)
# columns of a history that are no term of the loss
NO_TERMS = ("epoch", "loss", "seconds", "gradient", "factor", "validation")
DIMENSION_COLOURS = ("#0072B2", "#D55E00", "#009E73")
DIMENSION_NAMES = ("H0, components", "H1, loops", "H2, voids")


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw in the project's style, and close the figure so that a notebook shows it once, where it is returned."""

    @functools.wraps(draw)
    def drawn(*arguments, **options) -> Figure:
        with plt.style.context(STYLE):
            figure = draw(*arguments, **options)
            plt.close(figure)
        return figure

    return drawn
