"""Networks that compare two handwritten digits, trained over many seeds.

The names below are imported when they are first used: the command line must answer `--help` without loading torch.
"""

import importlib
import os

# MKL chooses its kernels by the alignment of the operands unless this is set, so that a matrix
# product would depend on where in memory its operands lie. MKL reads it at its first product.
# (`framework` sets it too, since it works without this package.)
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
    "SiameseNetwork": "digitpairs.networks",
    "PairComparison": "digitpairs.training",
    "PairComparisonArray": "digitpairs.training",
}
__all__ = ["__version__", *_LAZY_EXPORTS]


def __getattr__(name: str):
    if name not in _LAZY_EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return __all__
