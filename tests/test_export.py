"""Export to ONNX, against the networks: every kind of network, any batch, ensembles, faults."""

import sys

import numpy as np
import pytest
import torch

import digitpairs
from digitpairs import PairComparison
from digitpairs.checks import DataError
from digitpairs.export import main
from digitpairs.losses import NoAuxWeighting
from digitpairs.networks import (
    CNNBody,
    Ensemble,
    JointNetwork,
    MLPBody,
    ResidualBody,
    ResNetBody,
    SiameseNetwork,
)
from digitpairs.use import Comparer, onnx

onnxruntime = pytest.importorskip("onnxruntime")


def answers(path, pairs: torch.Tensor) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(path)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"images": pairs.numpy()})))


def check(path, comparer: Comparer) -> None:
    """Equal probabilities, for batches of other sizes than that of the export."""
    for batch in (1, 7):
        pairs = torch.rand(batch, 2, 14, 14)
        found, expected = answers(path, pairs), comparer.compare_images(pairs)
        np.testing.assert_allclose(found["probability"], expected.probability, atol=1e-5)
        if expected.digit_probabilities is None:
            assert set(found) == {"probability"}
        else:
            digits = found["digit_probabilities"]
            np.testing.assert_allclose(digits, expected.digit_probabilities, atol=1e-5)


@pytest.mark.long
def test_a_sweep_is_exported_as_its_mean(small_seeds, tmp_path, capsys):
    path = tmp_path / "model.onnx"
    assert main([str(small_seeds), "--to", str(path)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{path}: 0.") and "on 1000 pairs" in out and out.count("\n") == 1
    assert not err
    assert [each.name for each in tmp_path.iterdir()] == ["model.onnx"]
    check(path, digitpairs.load(small_seeds))


NETWORKS = {
    "siamese_cnn": lambda: SiameseNetwork(
        CNNBody([4, 8], hidden=[16]), batch_norm=True, comparison_hidden=[8]
    ),
    "siamese_resnet": lambda: SiameseNetwork(
        ResNetBody([1, 1, 1, 1]), batch_norm=True, comparison_input="posterior"
    ),
    "siamese_residual": lambda: SiameseNetwork(
        ResidualBody([4, 8], squeeze=2, drop_path=0.1), batch_norm=True, activation="gelu"
    ),
    "odd widths": lambda: SiameseNetwork(CNNBody([3, 5], hidden=[13]), activation="gelu"),
    "two bodies": lambda: SiameseNetwork(
        MLPBody([8]), sharing=False, comparison_input="onehot", comparison_outputs=2
    ),
    "mlp": lambda: JointNetwork(MLPBody([8])),
}


@pytest.mark.long
@pytest.mark.parametrize("tta", [0, 8])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_kind_of_network_is_exported(name, tta, tmp_path):
    torch.manual_seed(0)
    weighting = NoAuxWeighting() if name == "mlp" else None
    model = PairComparison(NETWORKS[name](), weighting, tta=tta)
    model.set_mean_and_std(0.13, 0.3)
    comparer = Comparer([model])
    assert onnx.export(comparer, tmp_path / "model.onnx") <= 1e-5
    check(tmp_path / "model.onnx", comparer)


@pytest.mark.long
@pytest.mark.parametrize("name", ["siamese_cnn", "siamese_residual", "two bodies", "mlp"])
def test_an_ensemble_is_exported_as_its_average(name, tmp_path):
    torch.manual_seed(0)
    weighting = NoAuxWeighting() if name == "mlp" else None
    ensemble = Ensemble([NETWORKS[name]() for _ in range(3)])
    model = PairComparison(ensemble, weighting, tta=2)
    model.set_mean_and_std(0.13, 0.3)
    comparer = Comparer([model])
    assert onnx.export(comparer, tmp_path / "model.onnx") <= 1e-5
    check(tmp_path / "model.onnx", comparer)


@pytest.mark.slow
def test_a_model_that_differs_is_removed(tmp_path, monkeypatch):
    """The written model has other weights than those that it is compared with."""
    comparer = Comparer([PairComparison(SiameseNetwork(MLPBody([8])))])
    write = onnx._write

    def write_and_change(module, path):
        write(module, path)
        with torch.no_grad():
            next(module.parameters()).add_(1)

    monkeypatch.setattr(onnx, "_write", write_and_change)
    path = tmp_path / "model.onnx"
    with pytest.raises(DataError, match=r"model\.onnx was removed: its probabilities differ"):
        onnx.export(comparer, path)
    assert not path.exists()


def test_missing_packages_are_named_with_the_extra(small_seeds, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(SystemExit) as leave:
        main([str(small_seeds), "--to", str(tmp_path / "model.onnx")])
    message = "error: the export needs onnxscript: pip install 'digitpairs[export]'\n"
    assert (leave.value.code, capsys.readouterr().err) == (2, message)


def test_a_folder_that_does_not_exist_is_refused(small_seeds, tmp_path, capsys):
    with pytest.raises(SystemExit) as leave:
        main([str(small_seeds), "--to", str(tmp_path / "no" / "model.onnx")])
    assert leave.value.code == 2
    assert "a file in a folder that exists" in capsys.readouterr().err
