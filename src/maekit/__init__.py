"""Masked autoencoders on your own pictures.

>>> import maekit
>>> maekit.__version__.count(".")
2
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maekit.checkpoint import load_classifier as load_classifier
    from maekit.checkpoint import load_encoder as load_encoder
    from maekit.checkpoint import load_mae as load_mae
    from maekit.errors import MaekitError as MaekitError
    from maekit.pretraining.config import PretrainConfig as PretrainConfig
    from maekit.tasks.check import check as check
    from maekit.tasks.finetune import finetune as finetune
    from maekit.tasks.knn import knn as knn
    from maekit.tasks.predict import predict as predict
    from maekit.tasks.pretrain import pretrain as pretrain
    from maekit.tasks.probe import probe as probe
    from maekit.tasks.reconstruct import reconstruct as reconstruct

__version__ = "0.1.0"

# Public name → where it lives. Loaded on first use: `import maekit` must not import torch.
_PUBLIC = {
    "MaekitError": "maekit.errors",
    "PretrainConfig": "maekit.pretraining.config",
    "check": "maekit.tasks.check",
    "finetune": "maekit.tasks.finetune",
    "knn": "maekit.tasks.knn",
    "load_classifier": "maekit.checkpoint",
    "load_encoder": "maekit.checkpoint",
    "load_mae": "maekit.checkpoint",
    "predict": "maekit.tasks.predict",
    "pretrain": "maekit.tasks.pretrain",
    "probe": "maekit.tasks.probe",
    "reconstruct": "maekit.tasks.reconstruct",
}
__all__ = ["__version__", *sorted(_PUBLIC)]  # names of _PUBLIC


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'maekit' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
