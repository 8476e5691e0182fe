"""Networks that compare two handwritten digits, trained over many seeds.

The public names are imported at their first use, so that `--help` does not wait for torch.
"""

import importlib
import os

# Without this setting MKL chooses its kernels by the alignment of the operands, and a matrix
# product depends on their place in memory. MKL reads it at its first product. `framework` sets it
# too, since it works without this package.
os.environ.setdefault("MKL_CBWR", "AUTO")

__version__ = "0.1.0"

_LAZY_EXPORTS = {
    "DiskDataModule": "digitpairs.data",
    "PairDataModule": "digitpairs.data",
    "PairDataModuleArray": "digitpairs.data",
    "CNNBody": "digitpairs.networks",
    "JointNetwork": "digitpairs.networks",
    "MLPBody": "digitpairs.networks",
    "ResNetBody": "digitpairs.networks",
    "ResidualBody": "digitpairs.networks",
    "SiameseNetwork": "digitpairs.networks",
    "PairComparison": "digitpairs.training",
    "PairComparisonArray": "digitpairs.training",
    "load": "digitpairs.use",
    "run": "digitpairs.notebook",
}
__all__ = ["__version__", *_LAZY_EXPORTS]


def __getattr__(name: str) -> object:
    if name not in _LAZY_EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return __all__
