"""Tamis finds the difficult examples of an image data set for contrastive learning.

`import tamis` needs numpy, torch, pyarrow and scikit-learn, and loads each only when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from tamis.errors import (
    AuthenticationError,
    CancelledError,
    ChecksumError,
    ConflictError,
    ExpiredError,
    InputError,
    LimitError,
    NotFoundError,
    QuotaError,
    SettingsError,
    TamisError,
)
from tamis.version import __version__

if TYPE_CHECKING:
    from tamis import losses, theory
    from tamis.blends import Blends, draw_parents
    from tamis.client import Client
    from tamis.curation import Curation, curate
    from tamis.histogram import Histogram
    from tamis.manifest import Manifest, read_manifest
    from tamis.similarity import PairScan, pair_scan

# Name to the module that defines it; None where the name is a module itself.
_LAZY: dict[str, str | None] = {
    "Blends": "tamis.blends",
    "Client": "tamis.client",
    "Curation": "tamis.curation",
    "Histogram": "tamis.histogram",
    "Manifest": "tamis.manifest",
    "PairScan": "tamis.similarity",
    "curate": "tamis.curation",
    "draw_parents": "tamis.blends",
    "losses": None,
    "pair_scan": "tamis.similarity",
    "read_manifest": "tamis.manifest",
    "theory": None,
}

__all__ = [
    "AuthenticationError",
    "Blends",
    "CancelledError",
    "ChecksumError",
    "Client",
    "ConflictError",
    "Curation",
    "ExpiredError",
    "Histogram",
    "InputError",
    "LimitError",
    "Manifest",
    "NotFoundError",
    "PairScan",
    "QuotaError",
    "SettingsError",
    "TamisError",
    "__version__",
    "curate",
    "draw_parents",
    "losses",
    "pair_scan",
    "read_manifest",
    "theory",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'tamis' has no attribute {name!r}")
    module = _LAZY[name]
    if module is None:
        return importlib.import_module(f"tamis.{name}")
    return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    return __all__
