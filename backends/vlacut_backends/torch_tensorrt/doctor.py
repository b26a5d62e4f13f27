"""What torch-tensorrt can build here; its engines are TensorRT's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version

from vlacut.backend import Diagnosis
from vlacut_backends.tensorrt.doctor import TensorRTDoctor

_WHAT = "torch-tensorrt"


class TorchTensorRTDoctor:
    """See `vlacut.backend.Doctor`."""

    def examine(self, recipe: Mapping[str, str] | None) -> Iterator[Diagnosis]:
        """See `vlacut.backend.Doctor`."""
        yield from TensorRTDoctor().examine(recipe)
        torch, found = _installed("torch"), _installed(_WHAT)
        if not found:
            follows = f"pip install torch-tensorrt{f'=={torch}' if torch else ''}"
            yield Diagnosis(_WHAT, "is not installed", False, follows)
            return
        alike = found.split(".")[:2] == torch.split(".")[:2]
        follows = "" if alike else f"it is for PyTorch {found}: pip install torch-tensorrt=={torch}"
        yield Diagnosis(_WHAT, f"{found}, beside PyTorch {torch or 'none'}", alike, follows)


def _installed(name: str) -> str:
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return ""
