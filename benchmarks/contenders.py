"""What a user would otherwise write: a plain PyTorch loop, and Lightning with Hydra as their documentation shows them.

Both train the network, loss, optimiser and schedule of the project's default configs, on pairs drawn in the same way.
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
    """The default siamese_cnn or siamese_mlp, as one would write it by hand."""

    def __init__(self, name: str) -> None:
        super().__init__()
        if name == "siamese_cnn":
            self.body = nn.Sequential(
                nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                nn.Dropout(0.3), nn.Linear(256, 184), nn.ReLU(), nn.Dropout(0.3), nn.Linear(184, 10),
            )  # fmt: skip
        else:
            self.body = nn.Sequential(
                nn.Flatten(),
                nn.Linear(196, 200),
                nn.ReLU(),
                nn.Linear(200, 80),
                nn.ReLU(),
                nn.Linear(80, 10),
            )
        self.compare = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        digits = self.body(images.flatten(0, 1)[:, None]).view(-1, 2, 10)
        return self.compare(digits.softmax(-1).flatten(1))[:, 0], digits


def loss_of(comparison: Tensor, logits: Tensor, digits: Tensor, target: Tensor) -> Tensor:
    digit_loss = F.cross_entropy(logits[:, 0], digits[:, 0]) + F.cross_entropy(
        logits[:, 1], digits[:, 1]
    )
    return digit_loss + LAMBDA * F.binary_cross_entropy_with_logits(comparison, target)


def draw(images: Tensor, classes: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs from uint8 images (n, 28, 28), from the global generator."""
    chosen = torch.randperm(len(images))[: 2 * count]
    pooled = F.avg_pool2d(images[chosen][:, None].float() / 255, 2)
    digits = classes[chosen].view(count, 2)
    return pooled.view(count, 2, 14, 14), digits, (digits[:, 0] <= digits[:, 1]).float()


def plain_loop(source, name: str, batch_size: int, epochs: int, seeds: range, folder: Path) -> None:
    """A loop over seeds with tensors in memory; it measures the test error at the end, and nothing else."""
    results = []
    for seed in seeds:
        torch.manual_seed(seed)
        images, digits, target = draw(source.train.images, source.train.classes, 1000)
        test_images, _, test_target = draw(source.test.images, source.test.classes, 1000)
        mean, std = images.mean(), images.std()
        images, test_images = (images - mean) / std, (test_images - mean) / std
        network = Network(name)
        optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
        steps = epochs * -(-len(images) // batch_size)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, LEARNING_RATE, steps, cycle_momentum=False
        )
        network.train()
        for _ in range(epochs):
            for rows in torch.randperm(len(images)).split(batch_size):
                comparison, logits = network(images[rows])
                loss = loss_of(comparison, logits, digits[rows], target[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                scheduler.step()
        network.eval()
        with torch.no_grad():
            comparison, _ = network(test_images)
        results.append(
            {
                "seed": seed,
                "test_error": 100 * ((comparison > 0) != test_target).float().mean().item(),
            }
        )
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(results))


class StockModule(pl.LightningModule):
    """Automatic optimisation, torchmetrics, `self.log` for each metric."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.network = Network(name)
        kinds = ("comparison", "digit1", "digit2")
        self.accuracies = nn.ModuleDict(
            {
                f"{split}_{kind}": torchmetrics.Accuracy(
                    **(
                        {"task": "binary"}
                        if kind == kinds[0]
                        else {"task": "multiclass", "num_classes": 10}
                    )
                )
                for split in ("fit", "test")
                for kind in kinds
            }
        )

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
        steps = int(self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, LEARNING_RATE, steps, cycle_momentum=False
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


def stock_lightning(
    source, name: str, batch_size: int, epochs: int, seeds: range, folder: Path
) -> None:
    """Hydra's own composition of each job (twice, as its launcher does) and a Trainer with its default checkpoint."""
    for seed in seeds:
        with initialize_config_dir(CONF, version_base="1.3"):
            for _ in range(2):
                compose("config", overrides=[f"model={name}", f"seed={seed}"])
        pl.seed_everything(seed, verbose=False)
        images, digits, target = draw(source.train.images, source.train.classes, 1000)
        test_images, test_digits, test_target = draw(source.test.images, source.test.classes, 1000)
        mean, std = images.mean(), images.std()
        train = DataLoader(
            TensorDataset((images - mean) / std, digits, target), batch_size, shuffle=True
        )
        test = DataLoader(TensorDataset((test_images - mean) / std, test_digits, test_target), 1000)
        logger = TensorBoardLogger(folder, name=f"seed={seed}", version="")
        trainer = pl.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            logger=logger,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=10,
        )
        module = StockModule(name)
        trainer.fit(module, train)
        trainer.test(module, test, verbose=False)
