from __future__ import annotations

import copy
import dataclasses
import itertools
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from topo_utils import datasets, training
from topo_utils.config import DiffusionConfig, VAEConfig
from topo_utils.training import CHECKPOINT, Batches, DivergenceError, Loader, Specification, fit, trainer
from topo_utils.training.callbacks import History
from topo_utils.training.vae import TrainingVAE

# what an untrained decoder makes is nearly all the same
pytestmark = pytest.mark.filterwarnings("ignore:most bars are shorter than the first step")

SMALL = VAEConfig(epochs=2, batch_size=64, cloud_size=16, latent_dimension=4)


def train(config, digits, features, **options):
    return fit(config, *digits, features, **{"progress": "none", **options})


def equal(one, other):
    weights = zip(one.model.state_dict().values(), other.model.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in weights)


def test_the_loss_falls_and_the_history_has_a_row_an_epoch(digits, features):
    trained = train(SMALL.replace(epochs=6, gamma_latent=1.0), digits, features)
    model, history = trained.model, trained.history
    assert history["epoch"].tolist() == list(range(6))
    assert history["loss"].iloc[-1] < 0.6 * history["loss"].iloc[0]
    columns = (
        *("reconstruction", "kl", "topological_latent", "validation_reconstruction", "validation_kl", "seconds"),
        *("gradient_loss", "gradient_topological"),
    )
    assert np.isfinite(history[list(columns)]).all(axis=None)
    assert not model.training


def test_gamma_zero_is_the_plain_vae_bit_for_bit(digits, features):
    plain = train(SMALL, digits, features)
    for other in (
        {"regularizer": "shuffled"},
        {"cloud_size": 32},
        {"levels": 3},
        {"every": 2},
        {"filtration": "knn", "k": 3},
    ):
        assert equal(plain, train(SMALL.replace(**other), digits, features))
    assert not equal(plain, train(SMALL.replace(gamma_latent=1.0), digits, features))
    assert not [name for name in plain.history if name.startswith(("topological", "gradient"))]


COMPARISONS = ("latent", "reconstruction", "generated", "sample")


@pytest.mark.parametrize(
    ("comparison", "options"),
    [
        *[(comparison, {}) for comparison in COMPARISONS],
        *[(comparison, {"representation": "image"}) for comparison in COMPARISONS],
        ("latent", {"regularizer": "distances"}),
        ("reconstruction", {"regularizer": "critical-edges"}),
        ("latent", {"regularizer": "critical-edges-h1"}),
        ("generated", {"regularizer": "energy"}),
        ("latent", {"regularizer": "gaussian"}),
        ("latent", {"regularizer": "shuffled"}),
    ],
)
def test_regularizers_reach_the_networks(comparison, options, digits, features):
    """A finite difference along the gradient agrees with it: the loss is differentiated through the whole model."""
    config = SMALL.replace(**{f"gamma_{comparison}": 1.0}, **options)
    module = trainer._module(Specification.of(config, digits[0]), digits[0], copy.deepcopy(features)).double()
    model, x = module.model, digits[0].items[:64].double()
    with torch.no_grad():
        model.decoder[0].weight *= 30  # untrained, it would make one and the same image of all codes

    def value():
        torch.manual_seed(1)
        batch = training.Batch(x, module.initial_autoencoder.features(x))
        batch = batch._replace(references=module.references(batch))
        return module.objective(batch)[2][comparison]()

    weight = model.decoder[0].weight if comparison == "generated" else model.encoder[-1].weight
    (gradient,) = torch.autograd.grad(value(), weight)
    assert gradient.norm() > 0
    step = 1e-6 * gradient / gradient.norm()
    with torch.no_grad():
        weight += step
        above = value()
        weight -= 2 * step
        below = value()
    assert (above - below).item() / 2e-6 == pytest.approx(gradient.norm().item(), rel=1e-3)


def test_preparing_ahead_in_the_background_changes_nothing(digits, features, monkeypatch):
    config = SMALL.replace(gamma_latent=1.0)
    ahead = train(config, digits, features)

    def iterate(self):
        for indices in self.sampler:
            batch = self.data.take(indices)
            yield batch._replace(references=self.prepare(batch))

    monkeypatch.setattr(training.Loader, "__iter__", iterate)
    assert equal(ahead, train(config, digits, features))


def test_a_loader_keeps_the_order_and_passes_errors_on():
    items = torch.arange(40.0)
    data = training.Batch(items, features=2 * items)
    loader = Loader(data, Batches(40, 5, seed=0), lambda batch: {"sum": (batch.items + batch.features).sum()}, every=3)
    batches = list(loader)
    assert len(batches) == len(loader) == 8
    assert torch.equal(torch.cat([batch.items for batch in batches]), items[torch.cat(list(loader.sampler))])
    for index, batch in enumerate(batches):
        assert torch.equal(batch.features, 2 * batch.items)
        assert (batch.references["sum"] == 3 * batch.items.sum()) if index % 3 == 0 else batch.references is None
    with pytest.raises(ZeroDivisionError):
        list(Loader(data, Batches(40, 5, seed=0), lambda batch: 1 / 0))


def test_every_second_step_has_the_topological_term(digits, features):
    always, sometimes = (train(SMALL.replace(gamma_latent=1.0, every=m), digits, features) for m in (1, 2))
    assert not equal(always, sometimes)
    assert np.isfinite(sometimes.history["topological_latent"]).all()


def test_the_same_seed_gives_the_same_weights_and_another_does_not(digits, features):
    config = SMALL.replace(gamma_latent=1.0)
    assert equal(train(config, digits, features), train(config, digits, features))
    assert not equal(train(config, digits, features), train(config.replace(seed=1), digits, features))


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(digits, features, tmp_path, monkeypatch):
    config = SMALL.replace(gamma_latent=1.0, epochs=3)
    whole = train(config, digits, features)

    def interrupt(self):
        if self.current_epoch == 2:
            raise RuntimeError("the machine went down")

    start = TrainingVAE.on_train_epoch_start
    with monkeypatch.context() as patch:
        patch.setattr(TrainingVAE, "on_train_epoch_start", lambda self: (start(self), interrupt(self)))
        with pytest.raises(RuntimeError, match="went down"):
            train(config, digits, features, folder=tmp_path)
    assert (tmp_path / CHECKPOINT).exists()
    epochs = []
    monkeypatch.setattr(TrainingVAE, "on_train_epoch_start", lambda self: (start(self), epochs.append(self.current_epoch)))
    resumed = train(config, digits, features, folder=tmp_path)
    assert equal(resumed, whole)
    assert resumed.history["loss"].tolist() == whole.history["loss"].tolist()
    assert epochs == [2], "what was done is not done again, which would give the same"
    again = train(config, digits, features, folder=tmp_path)
    assert equal(again, whole)
    assert epochs == [2]


def test_a_damaged_checkpoint_is_named_and_training_starts_over(digits, features, tmp_path, capsys):
    whole = train(SMALL, digits, features, folder=tmp_path)
    checkpoint = tmp_path / CHECKPOINT
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    assert equal(train(SMALL, digits, features, folder=tmp_path), whole)
    assert "cannot be read" in capsys.readouterr().out


def test_the_checkpoint_of_another_run_is_refused(digits, features, tmp_path):
    train(SMALL, digits, features, folder=tmp_path)
    with pytest.raises(ValueError, match="belongs to another run"):
        train(SMALL.replace(seed=1), digits, features, folder=tmp_path)


def test_divergence_stops_with_a_clear_error(digits, features):
    with pytest.raises(
        DivergenceError, match=r"diverged in epoch \d+, step \d+: .* Try a smaller learning_rate \(now 1e\+20\)"
    ):
        train(SMALL.replace(learning_rate=1e20), digits, features)


def test_what_cannot_run_is_named(digits, features):
    with pytest.raises(ValueError, match=r"batch_size: wanted at most 100 .*, got 128 on each of 2 devices"):
        train(SMALL.replace(batch_size=128, devices=2), digits, features)
    with pytest.raises(ValueError, match="batch_size: wanted at most 200"):
        train(SMALL.replace(batch_size=201), digits, features)
    with pytest.raises(ValueError, match="progress: wanted one of"):
        train(SMALL, digits, features, progress="loud")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="accelerator: got 'gpu'"):
            train(SMALL.replace(accelerator="gpu"), digits, features)


def test_equal_items_give_no_nan(digits, features):
    """All clouds collapse to a point: H1 is empty, H0 too; the loss is finite."""
    train_split = digits[0]
    mixed = dataclasses.replace(train_split, items=train_split.items.clone())
    mixed.items[64:] = mixed.items[0]
    history = fit(SMALL.replace(gamma_latent=1.0), mixed, digits[1], features, progress="none").history
    assert np.isfinite(history["topological_latent"]).all()


def test_plain_lines_are_printed_in_batch(digits, features, capsys):
    train(SMALL, digits, features, progress="lines")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines if "epoch" in line] == [["vae", "epoch", "1/2"], ["vae", "epoch", "2/2"]]


def test_plain_lines_are_five_or_six_of_many_epochs(digits, features, capsys):
    few = digits[0].subset(SMALL.batch_size), digits[1]
    trained = train(SMALL.replace(epochs=13), few, features, progress="lines")
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if "epoch" in line]
    assert [line[2] for line in lines] == ["3/13", "6/13", "9/13", "12/13", "13/13"]
    values = trained.history["reconstruction"].iloc[[2, 5, 8, 11, 12]]
    assert [line[line.index("reconstruction") + 1] for line in lines] == [f"{value:.4g}" for value in values]


def test_a_bar_counts_every_step_of_the_whole_training_and_is_seldom_drawn(digits, features, capsys, monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr("tqdm.std.time", lambda: 0.1 * next(clock))  # a tenth of a second passes from look to look
    monkeypatch.setattr("tqdm.std.tqdm.monitor_interval", 0)  # its thread looks at the true clock
    train(SMALL.replace(epochs=20), digits, features, progress="bar")
    drawn = capsys.readouterr().err.split("\r")
    steps = 20 * (len(digits[0]) // SMALL.batch_size)
    assert f"{steps}/{steps}" in drawn[-1]
    assert len(drawn) < steps / 2


def test_logs_are_written(digits, features, tmp_path):
    train(SMALL, digits, features, folder=tmp_path)
    assert (tmp_path / "logs" / "metrics.csv").exists()
    assert list((tmp_path / "logs").glob("events.out.tfevents*"))


def test_batches_cover_everything_in_an_order_of_seed_and_epoch():
    batches = Batches(20, 5, seed=0)
    first = torch.cat(list(batches))
    assert sorted(first.tolist()) == list(range(20))
    assert torch.equal(first, torch.cat(list(batches)))
    batches.set_epoch(1)
    assert not torch.equal(first, torch.cat(list(batches)))
    assert len(Batches(22, 5, seed=0)) == 4 == len(list(Batches(22, 5, seed=0)))


def test_two_devices_share_the_work(tmp_path):
    """Two processes on the CPU, in a process of their own: what they learned and logged comes back."""
    program = """
from topo_utils import datasets
from topo_utils.config import VAEConfig
from topo_utils.models.features import initial_autoencoder
from topo_utils.training import fit

train, validation = datasets.load("torus", "train", limit=512), datasets.load("torus", "validation", limit=100)
common = {"dataset": "torus", "batch_size": 64, "cloud_size": 32, "latent_dimension": 3, "width": 8, "accelerator": "cpu"}
config = VAEConfig(epochs=8, gamma_latent=10.0, devices=2, learning_rate=5.0e-3, **common)
history = fit(config, train, validation, initial_autoencoder(train), progress="none").history
assert history["epoch"].tolist() == list(range(8)), history
assert history["reconstruction"].iloc[-1] < history["reconstruction"].iloc[0], history
assert "topological_latent" in history
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_each_device_takes_its_own_batches(monkeypatch):
    taken = []
    for rank in range(2):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        taken += list(Batches(40, 4, seed=0, devices=2))
    assert len(taken) == 2 * len(Batches(40, 4, seed=0, devices=2)) == 10
    assert sorted(torch.cat(taken).tolist()) == list(range(40))


def test_diffusion_without_weights_is_the_plain_model_bit_for_bit(digits, features):
    small = DiffusionConfig(epochs=1, batch_size=64, cloud_size=16, width=8)
    few = [data.subset(128) for data in digits[:1]] + [digits[1].subset(20)]
    plain = fit(small, *few, features, progress="none")
    assert equal(plain, fit(small.replace(topological_sigma=0.1, levels=3), *few, features, progress="none"))
    lite = fit(small.replace(gamma_denoised=100.0, warmup=0.0), *few, features, progress="none")
    assert not equal(plain, lite)
    assert lite.history["topological_denoised"].iloc[0] > 0


def test_topodiffusionnet_is_told_the_number_and_compares_it(features):
    train, validation = (
        datasets.load("masks-28", split, limit=size) for split, size in (("train", 128), ("validation", 20))
    )
    config = DiffusionConfig(
        dataset="masks-28",
        condition="holes",
        betti_dimension=1,
        gamma_betti=1.0,
        epochs=1,
        batch_size=64,
        width=8,
        cloud_size=8,
    )
    trained = fit(config, train, validation, features, progress="none")
    model, history = trained.model, trained.history
    assert config.model == "topodiffusionnet"
    assert np.isfinite(history["topological_betti"]).all()
    assert model.network.conditioning.classes == int(train.properties["betti"][:, 1].max()) + 1
    with pytest.raises(ValueError, match="condition: wanted the class of each"):
        model.sample(2)


def test_an_interrupted_diffusion_goes_on_as_if_it_had_not_been(digits, features, tmp_path, monkeypatch):
    config = DiffusionConfig(epochs=2, batch_size=64, cloud_size=16, width=8, gamma_denoised=10.0)
    few = digits[0].subset(128), digits[1].subset(20)
    whole = fit(config, *few, features, progress="none")
    start = History.on_train_epoch_start

    def killed(self, trainer, module):
        if trainer.current_epoch == 1:
            raise SystemExit("killed")
        start(self, trainer, module)

    with monkeypatch.context() as patch:
        patch.setattr(History, "on_train_epoch_start", killed)
        with pytest.raises(SystemExit):
            fit(config, *few, features, tmp_path, progress="none")
    resumed = fit(config, *few, features, tmp_path, progress="none")
    assert equal(whole, resumed)
    assert whole.history["noise"].tolist() == resumed.history["noise"].tolist()


@pytest.mark.parametrize("comparison", COMPARISONS)
def test_divergence_is_named_with_a_regulariser_too(comparison, digits, features):
    config = SMALL.replace(learning_rate=1e20, epochs=1, **{f"gamma_{comparison}": 1.0})
    with pytest.raises(DivergenceError, match=rf"step 1: .*gamma_{comparison}"):
        train(config, digits, features)


def test_a_cloud_of_estimates_has_more_points_than_neighbours(digits, features):
    """However few items have little noise in a step, the knn filtration finds its k neighbours, or the step is left out."""
    config = DiffusionConfig(epochs=2, batch_size=16, cloud_size=16, width=8, gamma_denoised=1.0, filtration="knn", k=6)
    history = fit(config, digits[0], digits[1].subset(20), features, progress="none").history
    assert np.isfinite(history).all(axis=None)


def test_the_norms_are_those_of_the_last_step_that_is_compared(digits, features):
    history = train(SMALL.replace(gamma_latent=1.0, every=2, epochs=1), digits, features).history  # of the steps 0, 1, 2
    assert history["gradient_topological"].iloc[0] > 0
    history = train(SMALL.replace(gamma_latent=1.0, every=2, batch_size=50, epochs=1), digits, features).history  # 0 to 3
    assert history["gradient_topological"].iloc[0] > 0


def test_bf16_trains(digits, features):
    options = {"gamma_latent": 1.0, "gamma_reconstruction": 1.0, "gamma_generated": 1.0, "gamma_sample": 1.0, "epochs": 3}
    history = train(SMALL.replace(precision="bf16-mixed", **options), digits, features).history
    assert np.isfinite(history).all(axis=None)
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]


def test_a_checkpoint_of_other_data_or_features_is_refused(digits, features, tmp_path):
    config = SMALL.replace(epochs=1, gamma_latent=1.0)
    train(config, digits, features, folder=tmp_path)
    other = copy.deepcopy(features)
    other.scale = 2 * other.scale
    with pytest.raises(ValueError, match=r"belongs to another run .*name another folder"):
        train(config, digits, other, folder=tmp_path)
    with pytest.raises(ValueError, match="belongs to another run"):
        train(config, (digits[0].subset(150), digits[1]), features, folder=tmp_path)


def test_an_interrupt_does_not_end_the_caller(digits, features, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(TrainingVAE, "objective", interrupted)
    with pytest.raises(KeyboardInterrupt, match="run it again to go on from the last epoch"):
        train(SMALL, digits, features)
    assert signal.getsignal(signal.SIGINT) is before


def test_data_that_contradict_the_configuration_are_refused(digits, features):
    torus = datasets.load("torus", "train", limit=100)
    with pytest.raises(ValueError, match="dataset: the configuration names 'torus', but the training items are of"):
        train(SMALL.replace(dataset="torus"), digits, features)
    with pytest.raises(ValueError, match="limit: the configuration wants at most 150 training items, got 200"):
        train(SMALL.replace(limit=150), digits, features)
    with pytest.raises(ValueError, match=r"validation: wanted images of shape \(1, 28, 28\) as in train, got points"):
        train(SMALL, (digits[0], torus), features)
    with pytest.raises(ValueError, match=r"features: wanted F of items of shape \(3,\), got one of \(1, 28, 28\)"):
        train(SMALL, (torus, torus), features)
    trained = train(SMALL.replace(dataset="digits", limit=200, epochs=1), digits, features)
    assert trained.origin["train"] == digits[0].described()


def test_a_flipped_bit_in_a_checkpoint_is_noticed(digits, features, tmp_path, capsys):
    """torch would read it without a word."""
    whole = train(SMALL, digits, features, folder=tmp_path)
    checkpoint = tmp_path / CHECKPOINT
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 64
    checkpoint.write_bytes(content)
    torch.load(checkpoint, weights_only=True)
    assert equal(train(SMALL, digits, features, folder=tmp_path), whole)
    assert "cannot be read" in capsys.readouterr().out


@pytest.mark.parametrize("job", [False, True])
def test_slurm_is_not_an_order(job, tmp_path):
    """On a login node `srun` is on the PATH; within a job, Slurm's variables are set. Neither warns or takes over."""
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text("#!/bin/sh\nexit 1\n")
    srun.chmod(0o755)
    environment = os.environ | {"PATH": f"{srun.parent}:{os.environ['PATH']}", "TOPO_HOME": str(tmp_path)}
    if job:
        environment |= {"SLURM_NTASKS": "4", "SLURM_JOB_ID": "1", "SLURM_PROCID": "2", "SLURM_LOCALID": "2"}
        environment |= {"SLURM_JOB_NAME": "sweep", "SLURM_NODEID": "0", "SLURM_NNODES": "1"}
    program = """
import warnings
warnings.simplefilter("error")
from topo_utils import datasets
from topo_utils.config import VAEConfig
from topo_utils.models.features import Identity
from topo_utils.training import fit

train, validation = datasets.load("torus", "train", limit=64), datasets.load("torus", "validation", limit=20)
warnings.simplefilter("error")
config = VAEConfig(epochs=1, batch_size=32, width=4, accelerator="cpu")
history = fit(config, train, validation, Identity(), progress="none").history
assert len(history) == 1
"""
    done = subprocess.run([sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
