"""torch-tensorrt, the run half: its engines are TensorRT's, and run as those do.

So nothing of PyTorch is loaded where they are served, but that its release is in their key.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vlacut.bundle.engine_records import engines_folder, find_engine
from vlacut.errors import BackendError
from vlacut_backends.cuda.driver import driver
from vlacut_backends.tensorrt.execute import TensorRTEngine, TensorRTExecutor
from vlacut_backends.tensorrt.handles import tensorrt
from vlacut_backends.tensorrt.key import check_recipe
from vlacut_backends.torch_tensorrt.key import compiler_name, kept_keys, torch_engine_key


class TorchTensorRTExecutor(TensorRTExecutor):
    """Loads engines that torch-tensorrt built on this machine, see `engine_builder`."""

    def load(self, model: Path, root: Path, recipe: Mapping[str, str]) -> TensorRTEngine:
        """See `vlacut.backend.Executor`; refuses engines that were not built for this machine."""
        release, gpu = tensorrt().__version__, driver().gpu
        check_recipe(recipe, release, gpu.sm)
        key, folder = torch_engine_key(model, recipe, release, gpu), engines_folder()
        record = find_engine(folder, key)
        if record is None:
            raise BackendError(
                f"part {model.stem}: no engine for {gpu}, {compiler_name()}, TensorRT {release} in "
                f"{folder}; run vlacut build {root} --side SIDE --backend torch-tensorrt here"
            )
        try:
            keys = kept_keys(record.recipe)
        except (KeyError, ValueError, TypeError) as error:
            raise BackendError(
                f"{folder / key}.json: names no inputs and outputs; remove it and build again"
            ) from error
        return self.load_engine(folder / f"{key}.engine", model.stem, keys)
