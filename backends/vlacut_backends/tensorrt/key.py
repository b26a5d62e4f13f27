"""What an engine depends on, and whether a recipe is for this machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from vlacut.bundle.engine_records import sha256_of
from vlacut.errors import BackendError
from vlacut_backends.cuda.driver import Gpu
from vlacut_backends.tensorrt.holes import hole
from vlacut_backends.tensorrt.recipe import from_texts, parse_version


def engine_key(model: Path, recipe: Mapping[str, str], tensorrt: str, gpu: Gpu) -> str:
    """The name of the engine of a part on this machine.

    The part's file is in the key, and it names weights by their content. The GPU is in the key with
    its number of multiprocessors, not just its compute capability: tactics were timed on these.
    """
    depends = {
        "part": sha256_of(model),
        "recipe": dict(recipe),
        "tensorrt": release(tensorrt),
        "cuda": gpu.cuda,
        "gpu": [gpu.name, gpu.sm, gpu.multiprocessors],
    }
    return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()


def release(version: str) -> str:
    """`10.3.0` of `10.3.0.26`: trtexec says no more of itself."""
    return ".".join(map(str, parse_version(version)[:3]))


def check_recipe(recipe: Mapping[str, str], version: str, sm: int) -> None:
    """Raise BackendError if parts of this recipe were not made for a TensorRT or a GPU."""
    wanted = from_texts(recipe)
    if wanted.sm != sm:
        raise BackendError(
            f"the bundle was compiled for {wanted.device} (sm_{wanted.sm}), and this GPU is "
            f"sm_{sm}; compile it for this device"
        )
    found = hole(version, sm)
    if found is not None:
        raise BackendError(str(found))
    if not wanted.covers(version):
        raise BackendError(
            f"the bundle was compiled for TensorRT {wanted.oldest} to {wanted.newest}, and here is "
            f"{version}; compile it again with a device profile that covers it"
        )
