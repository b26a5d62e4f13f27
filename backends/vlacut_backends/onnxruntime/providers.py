"""ONNX Runtime's providers: which of them a recipe asks for, which is here, and if not, why.

A recipe names them in order of preference: `cuda,cpu` takes CUDA where it can be had, and says so
where a GPU is seen and it cannot; `cuda` alone refuses to run without.
"""

from __future__ import annotations

import logging
from importlib.metadata import PackageNotFoundError, version

import onnxruntime as ort

from vlacut.errors import BackendError, UnsupportedError
from vlacut.hardware.driver import SeenDriver, seen_driver

PROVIDERS = {
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
_PACKAGES = ("onnxruntime", "onnxruntime-gpu")
_AGAIN = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"
# From 1.19 on the package of PyPI is for CUDA 12 or newer: onnxruntime.ai, "CUDA Execution
# Provider", Requirements. What it was built for it says itself, if it is new enough.
_OLDEST_CUDA = 12
_log = logging.getLogger("vlacut.onnxruntime")


def chosen_provider(text: str) -> str:
    """The first provider of `cuda,cpu` that can run here.

    Raises BackendError saying what to install if there is none, or one is unknown.
    """
    reasons: list[str] = []
    for name in text.split(","):
        if name not in PROVIDERS:
            known = ", ".join(PROVIDERS)
            raise UnsupportedError(f"provider {name!r} is none of ONNX Runtime's here: {known}")
        reason = why_not(name)
        if not reason:
            for missed in reasons:
                _log.log(logging.WARNING if seen_driver() else logging.DEBUG, "%s", missed)
            return name
        reasons.append(reason)
    raise UnsupportedError(reasons[0])


def why_not(name: str) -> str:
    """Why a provider cannot run here, and what to do; empty if nothing is known against it."""
    if name == "cpu":
        return ""
    driver = seen_driver()
    if driver is None:
        return (
            f"provider {name}: no NVIDIA driver on this machine; install it, or take --provider cpu"
        )
    if not driver.gpus:
        return (
            f"provider {name}: the NVIDIA driver sees no GPU; look at CUDA_VISIBLE_DEVICES and "
            f"nvidia-smi, or take --provider cpu"
        )
    return _of_package(name) or _of_driver(name, driver)


def _of_package(name: str) -> str:
    if PROVIDERS[name] in ort.get_available_providers():
        return ""
    found = [package for package in _PACKAGES if installed(package)]
    if len(found) > 1:
        return (
            f"provider {name}: onnxruntime and onnxruntime-gpu are both installed, and one has "
            f"overwritten the other: {_AGAIN}"
        )
    if found == ["onnxruntime"]:
        return f"provider {name}: onnxruntime {ort.__version__} is for the CPU alone: {_AGAIN}"
    return (
        f"provider {name}: this build of ONNX Runtime {ort.__version__} lacks it; on a Jetson take "
        f"the wheel of its JetPack, on a server {_AGAIN}"
    )


def _of_driver(name: str, driver: SeenDriver) -> str:
    told = str(getattr(ort, "cuda_version", "") or "").partition(".")[0]
    wanted = int(told) if told.isdigit() else _OLDEST_CUDA
    if driver.cuda >= 1000 * wanted:
        return ""
    return (
        f"provider {name}: the NVIDIA driver knows CUDA up to {driver.release}, and ONNX Runtime "
        f"{ort.__version__} is for {wanted}: install a newer driver, or take --provider cpu"
    )


def not_loaded(name: str) -> BackendError:
    """For a session that ONNX Runtime left to another provider: its libraries are missing."""
    extra = ""
    if name == "tensorrt":
        extra = " and TensorRT (pip install 'vlacut[tensorrt]')"
    return BackendError(
        f"provider {name}: ONNX Runtime {ort.__version__} could not load it; it needs CUDA's "
        f"libraries and cuDNN 9{extra}: pip install 'onnxruntime-gpu[cuda,cudnn]', or take "
        f"--provider cpu"
    )


def installed(package: str) -> str:
    """The release of a package; empty if it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
