"""What PyTorch can run here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vlacut.backend import Diagnosis
from vlacut.errors import BackendError
from vlacut.hardware.driver import seen_driver

_WHAT = "PyTorch"


class TorchDoctor:
    """See `vlacut.backend.Doctor`."""

    def examine(self, recipe: Mapping[str, str] | None) -> Iterator[Diagnosis]:
        """See `vlacut.backend.Doctor`."""
        try:
            import torch

            from vlacut_backends.torch.execute import chosen_provider
        except (BackendError, ImportError):
            yield Diagnosis(_WHAT, "is not installed", False, "pip install 'vlacut[torch]'")
            return
        built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU alone"
        yield Diagnosis(_WHAT, f"{torch.__version__}, built for {built}", True)
        if torch.cuda.is_available():
            name, (major, minor) = (
                torch.cuda.get_device_name(0),
                torch.cuda.get_device_capability(0),
            )
            known = f"sm_{major}{minor}" in torch.cuda.get_arch_list()
            follows = (
                "" if known else f"install a build of PyTorch with kernels for sm_{major}{minor}"
            )
            yield Diagnosis(f"{_WHAT}, provider cuda", name, known, follows)
        elif seen_driver() is not None:
            follows = "pip install torch (its CUDA build), see https://pytorch.org/get-started"
            yield Diagnosis(f"{_WHAT}, provider cuda", "sees no GPU", False, follows)
        if recipe is None:
            return
        try:
            chosen = chosen_provider(recipe.get("provider", "cpu"))
            yield Diagnosis(f"{_WHAT}, this recipe", f"runs on {chosen}", True)
        except BackendError as error:
            yield Diagnosis(f"{_WHAT}, this recipe", "cannot run", False, str(error))
