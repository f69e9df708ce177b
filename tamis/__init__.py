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
    from tamis import losses, theory, torch
    from tamis.client.awaited import AsyncClient
    from tamis.client.client import Client
    from tamis.curation.blends import Blends, draw_parents
    from tamis.curation.curation import Curation, curate
    from tamis.manifest import Manifest, read_manifest
    from tamis.scan.histogram import Histogram
    from tamis.scan.pairs import PairScan, pair_scan

# Name to the module that defines it; None where the name is a module itself.
_LAZY: dict[str, str | None] = {
    "AsyncClient": "tamis.client.awaited",
    "Blends": "tamis.curation.blends",
    "Client": "tamis.client.client",
    "Curation": "tamis.curation.curation",
    "Histogram": "tamis.scan.histogram",
    "Manifest": "tamis.manifest",
    "PairScan": "tamis.scan.pairs",
    "curate": "tamis.curation.curation",
    "draw_parents": "tamis.curation.blends",
    "losses": None,
    "pair_scan": "tamis.scan.pairs",
    "read_manifest": "tamis.manifest",
    "theory": None,
    "torch": None,
}

__all__ = [
    "AsyncClient",
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
    "torch",
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
