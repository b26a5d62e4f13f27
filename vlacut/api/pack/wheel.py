"""The wheel of this runtime, made of what is installed here.

A wheel is a zip with the packages and `NAME-VERSION.dist-info` (PyPA, Binary distribution format
1.0). The same files give the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

from vlacut.errors import BundleError

PACKAGES = ("vlacut", "vlacut_backends", "vlacut_models", "vlacut_passes")
_NEEDED = ("METADATA", "entry_points.txt")
_ABOUT = "Wheel-Version: 1.0\nGenerator: vlacut\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_LEFT_OUT = ("__pycache__", ".mypy_cache")


def runtime_wheel() -> tuple[str, bytes]:
    """The name of the wheel, and its bytes. Raises BundleError if vlacut is not installed here."""
    try:
        installed = distribution("vlacut")
    except PackageNotFoundError as error:
        raise BundleError("a pack needs vlacut installed, not only on PYTHONPATH") from error
    about = f"vlacut-{installed.version}.dist-info"
    files = {name: data for package in PACKAGES for name, data in _files(package).items()}
    files |= {f"{about}/{name}": _text(installed, name) for name in _NEEDED}
    files[f"{about}/WHEEL"] = _ABOUT.encode()
    listed = [f"{name},sha256={_sum(data)},{len(data)}" for name, data in sorted(files.items())]
    files[f"{about}/RECORD"] = "\n".join([*listed, f"{about}/RECORD,,", ""]).encode()
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as wheel:
        for name, data in files.items():
            wheel.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return f"vlacut-{installed.version}-py3-none-any.whl", made.getvalue()


def _files(package: str) -> dict[str, bytes]:
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise BundleError(f"a pack needs the package {package}, which is not installed here")
    root = Path(next(iter(found.submodule_search_locations)))
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    kept = [path for path in paths if not set(_LEFT_OUT) & set(path.parts)]
    return {f"{package}/{path.relative_to(root).as_posix()}": path.read_bytes() for path in kept}


def _text(installed: Distribution, name: str) -> bytes:
    text = installed.read_text(name)
    if text is None:
        raise BundleError(f"vlacut is installed without its {name}; install it again")
    return text.encode()


def _sum(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
