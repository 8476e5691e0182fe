"""The alternatives to this project: a plain PyTorch loop, and Lightning with Hydra as documented.

Both train the network, loss, optimiser and schedule of the project's default configs, on pairs that
are drawn in the same way.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
import torchmetrics
from hydra import compose, initialize_config_dir
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

CONF = str(Path(__file__).resolve().parent.parent / "conf")
LAMBDA = 0.8
LEARNING_RATE = 0.005


class Network(nn.Module):
    """The default siamese_cnn or siamese_mlp in plain PyTorch."""

    def __init__(self, name: str) -> None:
        super().__init__()
        is_cnn = name == "siamese_cnn"
        self.body = convolutional_body() if is_cnn else linear_body()
        self.compare = PosteriorLogit() if is_cnn else learned_comparison()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        digits = self.body(images.flatten(0, 1)[:, None]).view(-1, 2, 10)
        return self.compare(digits)[:, 0], digits


class PosteriorLogit(nn.Module):
    """The logit of P(first <= second), (B, 1), that follows from the digits' logits (B, 2, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("greater", torch.ones(10, 10, dtype=torch.bool).tril(-1))

    def forward(self, digits: Tensor) -> Tensor:
        pairs = digits[:, 0, :, None] + digits[:, 1, None, :]
        at_most = pairs.masked_fill(self.greater, -torch.inf).flatten(1).logsumexp(-1, True)
        above = pairs.masked_fill(~self.greater, -torch.inf).flatten(1).logsumexp(-1, True)
        return at_most - above


def learned_comparison() -> nn.Module:
    layers = [nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 1)]
    return nn.Sequential(nn.Softmax(-1), nn.Flatten(), *layers)


def convolutional_body() -> nn.Module:
    first = [nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2)]
    second = [nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    hidden = [nn.Dropout(0.3), nn.Linear(256, 184), nn.ReLU()]
    return nn.Sequential(*first, *second, *hidden, nn.Dropout(0.3), nn.Linear(184, 10))


def linear_body() -> nn.Module:
    hidden = [nn.Linear(196, 200), nn.ReLU(), nn.Linear(200, 80), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(80, 10))


def loss_of(
    comparison: Tensor, logits: Tensor, digits: Tensor, target: Tensor, weight: float = LAMBDA
) -> Tensor:
    first, second = (F.cross_entropy(logits[:, image], digits[:, image]) for image in (0, 1))
    return first + second + weight * F.binary_cross_entropy_with_logits(comparison, target)


def draw(images: Tensor, classes: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random pairs (count, 2, 14, 14) of uint8 images (n, 28, 28), by the global generator.

    Returns the images, the digits (count, 2), and whether the first digit is at most the second.
    """
    chosen = torch.randperm(len(images))[: 2 * count]
    pooled = F.avg_pool2d(images[chosen][:, None].float() / 255, 2)
    digits = classes[chosen].view(count, 2)
    return pooled.view(count, 2, 14, 14), digits, (digits[:, 0] <= digits[:, 1]).float()


def one_cycle(optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.OneCycleLR:
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, steps, cycle_momentum=False
    )


def plain_epoch(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    pairs: tuple[Tensor, Tensor, Tensor],
    batch_size: int,
    weight: float = LAMBDA,
) -> None:
    """An epoch of a loop in plain PyTorch over pairs in memory, see `draw`."""
    images, digits, target = pairs
    network.train()
    for rows in torch.randperm(len(images)).split(batch_size):
        comparison, logits = network(images[rows])
        loss = loss_of(comparison, logits, digits[rows], target[rows], weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()


@torch.no_grad()
def error_of(network: nn.Module, images: Tensor, target: Tensor) -> float:
    """The error of the comparison in per cent."""
    comparison, _ = network.eval()(images)
    return 100 * ((comparison > 0) != target).float().mean().item()


def plain_loop(source, name: str, batch_size: int, epochs: int, seeds: range, folder: Path) -> None:
    """A loop over seeds with tensors in memory, which measures the final test error alone."""
    results = []
    for seed in seeds:
        torch.manual_seed(seed)
        images, digits, target = draw(source.train.images, source.train.classes, 1000)
        test_images, _, test_target = draw(source.test.images, source.test.classes, 1000)
        mean, std = images.mean(), images.std()
        images, test_images = (images - mean) / std, (test_images - mean) / std
        network = Network(name)
        optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
        scheduler = one_cycle(optimizer, epochs * -(-len(images) // batch_size))
        for _ in range(epochs):
            plain_epoch(network, optimizer, scheduler, (images, digits, target), batch_size)
        error = error_of(network, test_images, test_target)
        results.append({"seed": seed, "test_error": error})
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(results))


class StockModule(pl.LightningModule):
    """Automatic optimisation, torchmetrics, and `self.log` for each metric."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.network = Network(name)
        self.accuracies = nn.ModuleDict()
        for split in ("fit", "test"):
            self.accuracies[f"{split}_comparison"] = torchmetrics.Accuracy("binary")
            for digit in ("digit1", "digit2"):
                accuracy = torchmetrics.Accuracy("multiclass", num_classes=10)
                self.accuracies[f"{split}_{digit}"] = accuracy

    def _step(self, batch: list[Tensor], split: str) -> Tensor:
        images, digits, target = batch
        comparison, logits = self.network(images)
        loss = loss_of(comparison, logits, digits, target)
        self.log(f"{split}_loss", loss, on_step=False, on_epoch=True)
        for kind, predicted, truth in (
            ("comparison", comparison, target.long()),
            ("digit1", logits[:, 0], digits[:, 0]),
            ("digit2", logits[:, 1], digits[:, 1]),
        ):
            metric = self.accuracies[f"{split}_{kind}"]
            metric(predicted, truth)
            self.log(f"{split}_{kind}_accuracy", metric, on_step=False, on_epoch=True)
        return loss

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        return self._step(batch, "fit")

    def test_step(self, batch: list[Tensor], index: int) -> None:
        self._step(batch, "test")

    def configure_optimizers(self) -> dict:
        optimizer = torch.optim.Adam(self.parameters(), lr=LEARNING_RATE)
        scheduler = one_cycle(optimizer, int(self.trainer.estimated_stepping_batches))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


def stock_lightning(
    source, name: str, batch_size: int, epochs: int, seeds: range, folder: Path
) -> None:
    """A Trainer with its default checkpoint; each job is composed twice, as by Hydra."""
    for seed in seeds:
        with initialize_config_dir(CONF, version_base="1.3"):
            for _ in range(2):
                compose("config", overrides=[f"model={name}", f"seed={seed}"])
        pl.seed_everything(seed, verbose=False)
        images, digits, target = draw(source.train.images, source.train.classes, 1000)
        test_images, test_digits, test_target = draw(source.test.images, source.test.classes, 1000)
        mean, std = images.mean(), images.std()
        train_set = TensorDataset((images - mean) / std, digits, target)
        test_set = TensorDataset((test_images - mean) / std, test_digits, test_target)
        trainer = pl.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            logger=TensorBoardLogger(folder, name=f"seed={seed}", version=""),
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=10,
        )
        module = StockModule(name)
        trainer.fit(module, DataLoader(train_set, batch_size, shuffle=True))
        trainer.test(module, DataLoader(test_set, 1000), verbose=False)
