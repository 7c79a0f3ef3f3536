"""The one object that describes a training run."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from topo_utils.topology import REGULARIZERS


class ConfigError(ValueError):
    """A parameter has an unknown name, a wrong type or a value out of range. The message names it and what is wanted."""


class Strict(BaseModel):
    """Base of everything that is read from a parameter file: no unknown keys, no silent conversions, no later change."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    def __init__(self, **parameters: Any):
        try:
            super().__init__(**parameters)
        except ValidationError as error:
            raise ConfigError(_explain(error, type(self))) from None

    def replace(self, **changes: Any) -> Strict:
        """Copy with some values changed; the copy is checked like a new one."""
        return type(self)(**{**self.model_dump(), **changes})

    def digest(self) -> str:
        """Twelve hexadecimal digits that name these values."""
        text = json.dumps(self.model_dump(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


Gamma = Annotated[float, Field(ge=0)]


class Comparison(NamedTuple):
    """What a weight γ compares, and so what it asks of the regulariser.

    Attributes
    ----------
    paired
        Point i of the one cloud belongs to point i of the other.
    one_space
        Both clouds are features; else the loss is scale-free.
    items
        Each item is a cloud of its own, by its domain's filtration.
    regularized
        The regulariser makes it; False: it has a loss of its own.
    """

    paired: bool = True
    one_space: bool = True
    items: bool = False
    regularized: bool = True

    def misfit(self, name: str) -> str | None:
        """Why the regulariser of this name cannot make it; None when it can."""
        regularizer = REGULARIZERS[name]
        if regularizer.paired and not self.paired:
            return f"regularizer '{name}', which matches point by point"
        if regularizer.one_space and not self.one_space:
            return f"regularizer '{name}', which compares distributions in one space"
        if self.items and not regularizer.items:
            return f"regularizer '{name}', a control in the place of L_topo of batches"
        return None


class RunConfig(Strict):
    """What all training runs have in common: data, regulariser, budget and machine.

    Attributes
    ----------
    comparisons
        What each weight γ of the family compares, by name: ``gamma_latent`` weighs ``"latent"``.
    """

    comparisons: ClassVar[dict[str, Comparison]] = {}

    dataset: Annotated[str, Field(description="name of the data set; None for whatever is given to fit")] | None = None
    limit: Annotated[int, Field(ge=2, description="training items used, at most; None for all")] | None = None
    seed: Annotated[int, Field(ge=0)] = 0

    regularizer: Annotated[str, Field(description="L_topo; or a control in its place, a name in REGULARIZERS")] = (
        "topological"
    )
    representation: Literal["landscape", "image"] = "landscape"
    filtration: Literal["rips", "knn"] = "rips"
    k: Annotated[int, Field(ge=1, description="neighbours of the knn filtration")] | None = None
    levels: Annotated[int, Field(ge=1, description="landscape levels; None for all")] | None = None
    h0_weight: Annotated[float, Field(ge=0)] = 1.0
    h1_weight: Annotated[float, Field(ge=0)] = 1.0
    cloud_size: Annotated[int, Field(ge=4, description="points a cloud; a batch is cut into such clouds")] = 64
    match: Annotated[
        Literal["gamma", "gradient"],
        Field(description="what a control has in common with L_topo: γ, or how hard it pulls at the weights"),
    ] = "gamma"
    every: Annotated[int, Field(ge=1, description="the regulariser enters in every so many steps")] = 1
    warmup: Annotated[float, Field(ge=0, le=1, description="share of the steps over which gamma rises from 0")] = 0.2

    width: Annotated[int, Field(ge=4, description="channels of the first convolution; other layers follow it")] = 32
    epochs: Annotated[int, Field(ge=1)] = 20
    batch_size: Annotated[int, Field(ge=2)] = 128
    learning_rate: Annotated[float, Field(gt=0)] = 1.0e-3
    gradient_clip: Annotated[float, Field(gt=0, description="largest norm of the gradient; None for any")] | None = None
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: Annotated[int, Field(ge=1, description="devices; a batch and its clouds are a device's own")] = 1
    precision: Literal["32-true", "bf16-mixed"] = "32-true"

    @field_validator("dataset")
    @classmethod
    def _known_data(cls, name: str | None) -> str | None:
        from topo_utils.datasets import REGISTRY  # here: the loaders import a lot

        if name is not None and name not in REGISTRY:
            raise ValueError(f"parameter 'dataset': wanted one of {', '.join(REGISTRY)}, got {name!r}")
        return name

    @field_validator("regularizer")
    @classmethod
    def _known_regularizer(cls, name: str) -> str:
        if name not in REGULARIZERS:
            raise ValueError(f"parameter 'regularizer': wanted one of {', '.join(REGULARIZERS)}, got {name!r}")
        return name

    @model_validator(mode="after")
    def _consistent(self) -> RunConfig:
        if self.gammas and self.cloud_size > self.batch_size:
            raise ValueError(
                f"parameter 'cloud_size': wanted at most batch_size ({self.batch_size}), got {self.cloud_size}"
            )
        if (self.filtration == "knn") != (self.k is not None):
            raise ValueError(f"parameter 'k': wanted a number with filtration 'knn' and only then, got {self.k!r}")
        if self.k is not None and self.k >= self.cloud_size:
            raise ValueError(f"parameter 'k': wanted less than cloud_size ({self.cloud_size}), got {self.k}")
        if not self.h0_weight and not self.h1_weight:
            raise ValueError("parameters 'h0_weight' and 'h1_weight': wanted one of them above 0")
        if self.representation == "image" and self.levels is not None:
            raise ValueError(f"parameter 'levels': wanted None with representation 'image', got {self.levels}")
        for name, compared in self.compared.items():
            if compared.regularized and (why := compared.misfit(self.regularizer)):
                raise ValueError(f"parameter 'gamma_{name}': wanted 0 with {why}, got {self.gammas[name]}")
        return self

    @property
    def gammas(self) -> dict[str, float]:
        """The weights that are not zero, by comparison."""
        return {name: value for name in self.comparisons if (value := getattr(self, f"gamma_{name}"))}

    @property
    def compared(self) -> dict[str, Comparison]:
        """The comparisons whose weight is not zero."""
        return {name: self.comparisons[name] for name in self.gammas}


class VAEConfig(RunConfig):
    """Parameters of a training run of the VAE family.

    With all weights γ zero the model is the plain VAE (or, when ``beta`` differs from 1, the beta-VAE) bit for bit.
    """

    comparisons: ClassVar[dict[str, Comparison]] = {
        "latent": Comparison(one_space=False),
        "reconstruction": Comparison(),
        "generated": Comparison(paired=False),
        "sample": Comparison(items=True),
    }

    latent_dimension: Annotated[int, Field(ge=1)] = 10
    encoder_from: Annotated[
        Literal["random", "features"], Field(description="what the encoder starts from: chance, or F's own layers")
    ] = "random"
    beta: Annotated[float, Field(ge=0, description="weight of the Kullback-Leibler term")] = 1.0
    prior: Annotated[
        Literal["standard", "mixture", "vamp"], Field(description="p(z): N(0, I), or Gaussians that are learned")
    ] = "standard"
    prior_components: Annotated[int, Field(ge=1, description="Gaussians of a learned prior")] = 50
    prior_learning_rate: Annotated[float, Field(gt=0, description="of a learned prior's own parameters")] = 5.0e-3
    gamma_latent: Annotated[Gamma, Field(description="F(x) against the posterior means, scale-free")] = 0.0
    gamma_reconstruction: Annotated[Gamma, Field(description="F(x) against F(x̂)")] = 0.0
    gamma_generated: Annotated[Gamma, Field(description="F(x) against F(G(z)), z from the prior")] = 0.0
    gamma_sample: Annotated[Gamma, Field(description="each item against its reconstruction, by its own topology")] = 0.0

    @property
    def model(self) -> str:
        """Name of the model that these weights make: ``vae``, ``beta-vae`` (β > 1, as its authors have it), ``vae-weak-kl``
        (β < 1), ``topovae``, or ``vae-`` and the control.
        """
        if self.gammas:
            return "topovae" if self.regularizer == "topological" else f"vae-{self.regularizer}"
        return "vae" if self.beta == 1 else "beta-vae" if self.beta > 1 else "vae-weak-kl"


class DiffusionConfig(RunConfig):
    """Parameters of a training run of the diffusion models; with all weights γ zero the plain model, bit for bit.

    Noise levels are in units of the data's standard deviation σ_data.
    """

    comparisons: ClassVar[dict[str, Comparison]] = {
        "denoised": Comparison(),
        "sample": Comparison(items=True),
        "betti": Comparison(regularized=False),
    }

    sigma_min: Annotated[float, Field(gt=0)] = 0.02
    sigma_max: Annotated[float, Field(gt=0, description="in units of the deviation along the first principal axis")] = 5.0
    schedule: Annotated[Literal["lognormal", "loguniform"], Field(description="distribution of σ in training")] = (
        "lognormal"
    )
    decay: Annotated[float, Field(ge=0, lt=1, description="of the moving average of the weights")] = 0.999
    condition: Annotated[
        Literal["none", "components", "holes"], Field(description="Betti number of an item that the network is told")
    ] = "none"
    topological_sigma: Annotated[
        float, Field(gt=0, description="highest noise level at which a denoised estimate is compared")
    ] = 0.5
    gamma_denoised: Annotated[Gamma, Field(description="F(x) against F(x̃), x̃ the denoised estimate")] = 0.0
    gamma_sample: Annotated[Gamma, Field(description="each item against its estimate, by its own topology")] = 0.0
    gamma_betti: Annotated[Gamma, Field(description="TopoDiffusionNet's loss of x̃, given the item's Betti number")] = 0.0
    betti_form: Annotated[
        Literal["paper", "code"], Field(description="TopoDiffusionNet's loss as published, or as its code has it")
    ] = "paper"
    betti_dimension: Annotated[Literal[0, 1], Field(description="Betti number of that loss")] = 0

    @model_validator(mode="after")
    def _possible(self) -> DiffusionConfig:
        from topo_utils.datasets import REGISTRY  # here: the loaders import a lot

        if self.dataset is not None and self.width % 8 and REGISTRY[self.dataset].domain.pixels:
            raise ValueError(
                f"parameter 'width': wanted a multiple of 8 for the U-Net of '{self.dataset}', got {self.width}"
            )
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"parameter 'sigma_min': wanted less than sigma_max ({self.sigma_max}), got {self.sigma_min}")
        if self.gammas and self.topological_sigma <= self.sigma_min:
            raise ValueError(
                f"parameter 'topological_sigma': wanted more than sigma_min ({self.sigma_min}), below which there is no "
                f"estimate to compare, got {self.topological_sigma}"
            )
        if self.condition != "none" and self.betti_dimension != ("components", "holes").index(self.condition):
            raise ValueError(
                f"parameter 'betti_dimension': wanted that of the condition '{self.condition}', got {self.betti_dimension}"
            )
        return self

    @property
    def model(self) -> str:
        """``diffusion`` or, asked for a Betti number, ``mask-diffusion``; ``topodiffusion-lite``; ``topodiffusionnet``
        or, not asked for a number, ``diffusion-betti``; or ``diffusion-`` and the control.
        """
        if set(self.gammas) == {"betti"}:
            return "diffusion-betti" if self.condition == "none" else "topodiffusionnet"
        if self.gammas:
            return "topodiffusion-lite" if self.regularizer == "topological" else f"diffusion-{self.regularizer}"
        return "diffusion" if self.condition == "none" else "mask-diffusion"


def _explain(error: ValidationError, schema: type[BaseModel]) -> str:
    """One line a mistake: the key, what came, what is wanted."""
    lines = []
    for mistake in error.errors(include_url=False):
        key, came = str(mistake["loc"][0]) if mistake["loc"] else schema.__name__, mistake["input"]
        if mistake["type"] == "extra_forbidden":
            lines.append(f"unknown parameter '{key}'; the known ones are {', '.join(schema.model_fields)}")
            continue
        if mistake["type"] == "value_error":  # a check of ours, with a message of ours
            lines.append(str(mistake["ctx"]["error"]))
            continue
        wanted = mistake["msg"].removeprefix("Input should be ")
        hint = ""
        if isinstance(came, str) and mistake["type"].startswith(("float", "int")):
            hint = (
                " (YAML reads 1e-3 and 1.0e6 as text: write 1.0e-3 and 1.0e+6)"
                if "e" in came.lower() and came[:1].isdigit()
                else ""
            )
        lines.append(f"parameter '{key}': wanted {wanted}, got {came!r}{hint}")
    return "; ".join(dict.fromkeys(lines))
