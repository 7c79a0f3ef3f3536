"""Controls that pull as hard as L_topo: factors for γ from the norms of the gradients, taken anew in each epoch.

At equal γ a control's gradient has another size than L_topo's, so that a difference between the two models can be one of
strength. Here γ is multiplied by ‖∇L_topo‖ / ‖∇L_control‖, both at the weights that the control's model has at the start of
the epoch, and each the mean over the same batches of validation items.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from lightning.pytorch.callbacks import Callback

from topo_utils.seed import seed_everything
from topo_utils.training.loader import Batch
from topo_utils.training.module import Training

BATCHES = 4  # of validation items


class Matching(Callback):
    """Keeps the factors of a training that has a control in the place of L_topo.

    Parameters
    ----------
    yardstick
        A training of the same network with L_topo; it is only asked for gradients.
    batches
        Validation items with their features.
    """

    def __init__(self, yardstick: Training, batches: Iterable[Batch]):
        self.yardstick, self.batches = yardstick, list(batches)

    def on_train_epoch_start(self, trainer, module: Training) -> None:
        self.yardstick.to(module.device)
        wanted, got = (pulls(each, self.batches) for each in (self.yardstick, module))
        for name, norm in got.items():
            if not norm or not wanted[name]:
                raise ValueError(
                    f"match: wanted gradients that are not zero, got {norm:.3g} of the control and {wanted[name]:.3g} of "
                    f"L_topo for gamma_{name}, in epoch {trainer.current_epoch}"
                )
        module.factors = {name: wanted[name] / norm for name, norm in got.items()}


def pulls(training: Training, batches: Iterable[Batch]) -> dict[str, float]:
    """Norm of the gradient of each regularised comparison alone, without γ, at the weights; the mean over the batches.

    Noise and codes depend on the run's seed and the batch alone: two trainings of one network see the same, in each epoch.
    """
    weights = [weight for weight in training.model.parameters() if weight.requires_grad]
    norms: dict[str, list[float]] = {}
    for index, batch in enumerate(batches):
        seed_everything(training.config.seed, "match", index)
        _, _, comparisons = training.objective(batch._replace(references=training.references(batch)))
        for name in training.regularizers:
            gradients = torch.autograd.grad(comparisons[name](), weights, retain_graph=True, allow_unused=True)
            squares = [each.square().sum() for each in gradients if each is not None]
            norms.setdefault(name, []).append(torch.stack(squares).sum().sqrt().item())
    return {name: sum(each) / len(each) for name, each in norms.items()}
