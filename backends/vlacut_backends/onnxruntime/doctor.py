"""What ONNX Runtime can run here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vlacut.backend import Diagnosis
from vlacut.errors import BackendError

_WHAT = "ONNX Runtime"


class OnnxRuntimeDoctor:
    """See `vlacut.backend.Doctor`."""

    def examine(self, recipe: Mapping[str, str] | None) -> Iterator[Diagnosis]:
        """See `vlacut.backend.Doctor`."""
        try:
            import onnxruntime as ort

            from vlacut_backends.onnxruntime.providers import PROVIDERS, installed, why_not
        except (BackendError, ImportError):
            follows = "pip install 'vlacut[onnxruntime]', with a GPU 'vlacut[gpu]'"
            yield Diagnosis(_WHAT, "is not installed", False, follows)
            return
        wheels = [name for name in ("onnxruntime", "onnxruntime-gpu") if installed(name)]
        said = f"{ort.__version__} ({' and '.join(wheels) or 'a build of its own'})"
        both = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"
        yield Diagnosis(_WHAT, said, len(wheels) < 2, both if len(wheels) > 1 else "")
        if recipe is None:
            asked, needed = list(PROVIDERS), set[str]()
        else:
            asked = recipe.get("provider", "cpu").split(",")
            needed = {*asked} if len(asked) == 1 else set()
        for name in asked:
            reason = why_not(name) if name in PROVIDERS else f"there is no provider {name}"
            found = "can run" if not reason else "cannot run"
            yield Diagnosis(f"{_WHAT}, provider {name}", found, not reason, reason, name in needed)
