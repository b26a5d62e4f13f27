"""What TensorRT can build and run here. Without a driver its module is not touched: see `cuda`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vlacut.backend import Diagnosis
from vlacut.errors import BackendError
from vlacut.hardware.driver import seen_driver
from vlacut_backends.tensorrt.handles import tensorrt
from vlacut_backends.tensorrt.holes import hole
from vlacut_backends.tensorrt.key import check_recipe

_WHAT = "TensorRT"


class TensorRTDoctor:
    """See `vlacut.backend.Doctor`."""

    def examine(self, recipe: Mapping[str, str] | None) -> Iterator[Diagnosis]:
        """See `vlacut.backend.Doctor`."""
        driver = seen_driver()
        if driver is None or not driver.gpus:
            follows = "run it where the GPU is; vlacut check says what is known without one"
            yield Diagnosis(_WHAT, "needs a GPU, and none is seen", False, follows)
            return
        try:
            version = str(tensorrt().__version__)
        except BackendError as error:
            follows = "sudo apt install python3-libnvinfer (Jetson), pip install 'vlacut[tensorrt]'"
            yield Diagnosis(_WHAT, str(error).partition(":")[0], False, follows)
            return
        found = hole(version, driver.gpus[0].sm)
        yield Diagnosis(_WHAT, version, found is None, "" if found is None else str(found))
        if recipe is None:
            return
        try:
            check_recipe(recipe, version, driver.gpus[0].sm)
        except BackendError as error:
            yield Diagnosis(f"{_WHAT}, this recipe", "cannot run", False, str(error))
        else:
            yield Diagnosis(f"{_WHAT}, this recipe", f"is for sm_{driver.gpus[0].sm}", True)
