"""The one object that describes a training run."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator


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
        """Eight hexadecimal digits that name these values."""
        text = json.dumps(self.model_dump(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]


class RunConfig(Strict):
    """Parameters of a training run of the VAE family.

    With ``gamma = 0`` the model is the plain VAE (or, when ``beta`` differs from 1, the beta-VAE) bit for bit.
    """

    dataset: Literal["digits", "mnist"] = "digits"
    limit: Annotated[int, Field(ge=2, description="training items used; None for all")] | None = None
    seed: Annotated[int, Field(ge=0)] = 0

    latent_dimension: Annotated[int, Field(ge=1)] = 10
    beta: Annotated[float, Field(ge=0, description="weight of the Kullback-Leibler term")] = 1.0

    gamma: Annotated[float, Field(ge=0, description="weight of L_topo")] = 0.0
    comparison: Annotated[
        Literal["latent", "reconstruction", "generated"],
        Field(description="which cloud is compared with F(x): the posterior means, F(x̂), or F(G(z)) with z from the prior"),
    ] = "latent"
    representation: Literal["landscape", "image"] = "landscape"
    levels: Annotated[int, Field(ge=1, description="landscape levels; None for all")] | None = None
    h0_weight: Annotated[float, Field(ge=0)] = 1.0
    h1_weight: Annotated[float, Field(ge=0)] = 1.0
    cloud_size: Annotated[int, Field(ge=4, description="points a cloud; a batch is cut into such clouds")] = 64
    every: Annotated[int, Field(ge=1, description="L_topo enters in every so many steps")] = 1
    warmup: Annotated[float, Field(ge=0, le=1, description="share of the steps over which gamma rises from 0")] = 0.2

    epochs: Annotated[int, Field(ge=1)] = 20
    batch_size: Annotated[int, Field(ge=2)] = 128
    learning_rate: Annotated[float, Field(gt=0)] = 1.0e-3
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"

    @model_validator(mode="after")
    def _clouds_fit_into_batches(self) -> RunConfig:
        if self.gamma > 0 and self.cloud_size > self.batch_size:
            raise ValueError(
                f"parameter 'cloud_size': wanted at most batch_size ({self.batch_size}), got {self.cloud_size}"
            )
        return self

    @property
    def model(self) -> str:
        """Name of the model that these weights make: ``vae``, ``beta-vae`` or ``topovae``."""
        if self.gamma > 0:
            return "topovae"
        return "vae" if self.beta == 1 else "beta-vae"


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
