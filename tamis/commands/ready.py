"""What a command that works on this machine makes sure of before it begins, and before anything heavy is loaded."""

import os
from pathlib import Path

from tamis.errors import ConflictError, InputError


def check_source(source: str) -> None:
    """Raises InputError where there is none; of a bucket it is known only once it is asked."""
    if "://" not in source and not Path(source).exists():
        raise InputError(f"There is no {source}.", "Give a folder or archive of images.")


def check_out(out: Path, source: str | None = None) -> None:
    """Raises InputError for a folder that cannot be made or written into, and for one in the folder of the source."""
    if source is not None and Path(source).is_dir() and out.resolve().is_relative_to(Path(source).resolve()):
        raise InputError(f"{out} is in {source}, and nothing is written there.", "Choose another folder with -o.")
    there = next(place for place in (out, *out.absolute().parents) if place.exists())
    if not there.is_dir():
        raise InputError(f"{out} cannot be made: {there} is no folder.", "Choose another one with -o.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{out} cannot be written: {there} belongs to others.", "Choose another folder with -o.")


def check_manifest_out(out: Path, force: bool, source: str | None = None) -> None:
    """As `check_out`; raises ConflictError for a folder that holds a manifest, unless that may be replaced."""
    check_out(out, source)
    if not force and (out / "manifest.json").exists():
        raise ConflictError(f"{out} holds a manifest.", "Choose another folder with -o, or replace it with --force.")


def check_gpu(device: str) -> None:
    """Raises InputError for a GPU that is not there. Loads PyTorch where one is asked for."""
    if device.startswith("cuda"):
        from tamis.device import resolve_device

        resolve_device(device)
