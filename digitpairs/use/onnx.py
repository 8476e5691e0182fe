"""Export of trained networks to ONNX, checked against the networks by onnxruntime."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from digitpairs.checks import DataError, InvalidValueError
from digitpairs.data import sources
from digitpairs.data.pairs import draw_pairs
from digitpairs.data.sources import SIDE
from digitpairs.networks import Prediction
from digitpairs.networks.comparison import as_prediction
from digitpairs.training import PairComparison
from digitpairs.use.comparer import Comparer, probabilities

TOLERANCE = 1e-5  # of the probabilities
CHECKED_PAIRS = 1000
PACKAGES = ("onnx", "onnxruntime", "onnxscript")
INPUT, OUTPUTS = "images", ("probability", "digit_probabilities")


class Probabilities(nn.Module):
    """Pixels (B, 2, 14, 14) in [0, 1] -> P(first <= second) (B,), and of the digits (B, 2, 10).

    The means over the models, which normalise the pixels themselves. The digits' probabilities are
    left out for networks that name no digits.
    """

    def __init__(self, comparer: Comparer) -> None:
        super().__init__()
        self.members = nn.ModuleList(_Member(model) for model in comparer.models)
        self.names_digits = comparer.names_digits

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        answers = [member(images) for member in self.members]
        comparison = torch.stack([comparison for comparison, _ in answers]).mean(0)
        if not self.names_digits:
            return comparison
        return comparison, torch.stack([digits for _, digits in answers]).mean(0)


class _Member(nn.Module):
    """A model without Lightning's parts, which cannot be exported."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: PairComparison) -> None:
        super().__init__()
        self.network, self.calibration, self.views = model.network, model.calibration, model.views
        self.register_buffer("mean", model.mean.clone())
        self.register_buffer("std", model.std.clone())

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        predict, views = self._predicted, self.views
        prediction = predict(images) if views is None else views(predict, images)
        return probabilities(self.calibration(prediction) if self.calibration else prediction)

    def _predicted(self, images: Tensor) -> Prediction:
        return as_prediction(self.network((images - self.mean) / self.std))


def export(comparer: Comparer, path: Path) -> float:
    """Write the networks as an ONNX model, and return its largest difference from them.

    The input "images" has the shape (batch, 2, 14, 14), pixels in [0, 1]; the outputs are
    "probability" (batch,) and, from networks that name digits, "digit_probabilities"
    (batch, 2, 10). The probabilities of 1000 pairs are computed by onnxruntime.

    Raises InvalidValueError for a path that cannot be written, and DataError without the packages
    of the extra "export", for a network that ONNX cannot express, and for one whose probabilities
    differ by more than 1e-5; then no file is left.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise DataError(f"the export needs {', '.join(missing)}: pip install 'digitpairs[export]'")
    if not path.parent.is_dir():
        raise InvalidValueError("--to", str(path), "a file in a folder that exists")
    module = Probabilities(comparer).eval()
    _write(module, path)
    difference = _largest_difference(module, path)
    if not difference <= TOLERANCE:
        path.unlink()
        raise DataError(
            f"{path} was removed: its probabilities differ from the network's by up to "
            f"{difference:.1g}, more than {TOLERANCE:g}"
        )
    return difference


def _write(module: Probabilities, path: Path) -> None:
    example = torch.rand(2, 2, SIDE, SIDE)
    outputs = OUTPUTS if module.names_digits else OUTPUTS[:1]
    with _quiet():
        try:
            program = torch.onnx.export(
                module,
                (example,),
                input_names=[INPUT],
                output_names=list(outputs),
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                dynamo=True,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as fault:
            reason = str(fault.__cause__ or fault).strip().splitlines()[0]
            raise DataError(f"ONNX cannot express this network: {reason}") from fault
        assert program is not None
        program.save(path, external_data=False)


def _largest_difference(module: Probabilities, path: Path) -> float:
    """Between onnxruntime's and torch's probabilities of pairs of scikit-learn's digits."""
    import onnxruntime

    generator = torch.Generator().manual_seed(0)
    pairs = draw_pairs(sources.load("digits").train, CHECKED_PAIRS, generator).take(slice(None))
    with torch.inference_mode():
        expected = module(pairs.images)
    expected = expected if module.names_digits else (expected,)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = session.run(None, {INPUT: pairs.images.numpy()})
    return max(float(np.abs(a - b.numpy()).max()) for a, b in zip(found, expected, strict=True))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's progress on standard output, its log and its warnings."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
