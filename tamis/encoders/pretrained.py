"""Encoders with the weights that torchvision and timm publish, from their caches on this machine or their servers."""

from pathlib import Path
from urllib.parse import urlsplit

import torch

from tamis.encoders.encoder import Encoder
from tamis.encoders.files import load_encoder
from tamis.encoders.networks import timm_config, torchvision_weights
from tamis.errors import InputError

HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def pretrained(architecture: str) -> Encoder:
    """The encoder `torchvision:NAME[.WEIGHTS]` or `timm:NAME`; a file in the library's cache is taken as it is.

    Raises InputError when there is no such network, or its weights are neither in the cache nor to be downloaded.
    """
    library, _, name = architecture.partition(":")
    file = _of_torchvision(name) if library == "torchvision" else _of_timm(name)
    return load_encoder(file, architecture)


def _of_torchvision(name: str) -> Path:
    url = torchvision_weights(name)[1].url
    file = Path(torch.hub.get_dir(), "checkpoints", Path(urlsplit(url).path).name)
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            # The file's name ends with the first digits of its SHA-256.
            torch.hub.download_url_to_file(url, str(file), hash_prefix=file.stem.rpartition("-")[2], progress=False)
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"The weights of torchvision:{name} are not in {file} and cannot be downloaded from {url} ({error}).",
                f"Put the file there, or name another as torchvision:{name}@FILE.",
            ) from error
    return file


def _of_timm(name: str) -> Path:
    config = timm_config(name)
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    hint = f"Download the weights elsewhere and name them as timm:{name}@FILE."
    place = config.get("hf_hub_id")
    if place is None:
        raise InputError(f"timm has no weights of {name} in a place that Tamis knows.", hint)
    files = [config["hf_hub_filename"]] if "hf_hub_filename" in config else HUB_FILES
    for file in files:
        if isinstance(cached := try_to_load_from_cache(place, file), str):
            return Path(cached)
    try:
        return Path(hf_hub_download(place, files[0]))
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"The weights of timm:{name} are not in the Hugging Face cache, as {place}, and cannot be downloaded.", hint
        ) from error
