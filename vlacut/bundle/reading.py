"""Reading a bundle: its manifest is checked, then every file that it names, before any is used."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Container
from pathlib import Path

from vlacut.bundle.contents import Manifest, check_manifest
from vlacut.bundle.halves import read_half
from vlacut.bundle.layout import FORMAT, MANIFEST, MANIFEST_DIGEST, SIGNATURE
from vlacut.bundle.opened import Bundle
from vlacut.bundle.serde import from_json
from vlacut.bundle.writing import sha256_of
from vlacut.errors import BundleError

_MAX_MANIFEST_BYTES = 1 << 28
_CONTROLS = re.compile(r"[\x01-\x08\x0b-\x1f\x7f-\x9f]")


def open_bundle(path: Path, *, half: bool = False) -> Bundle:
    """Open a bundle and check every file in it.

    Args:
        path: of the bundle.
        half: whether one side's half will do, see `vlacut.bundle.halves`.

    Raises BundleError naming the first file that is missing or altered.
    """
    bundle = read_bundle(path)
    if not half:
        bundle.require(None)
    for problem in check_files(bundle):
        raise BundleError(f"{path}: {problem}; compile it again, or copy it again")
    return bundle


def check_files(bundle: Bundle, without: Container[str] = ()) -> list[str]:
    """One line per file that is missing or altered; files in `without` are not looked at."""
    problems = []
    for name, entry in bundle.files.items():
        if name in without:
            continue
        path = bundle.root / name
        if not path.is_file():
            problems.append(f"{name} is missing")
        elif path.stat().st_size != entry.nbytes or sha256_of(path) != entry.sha256:
            problems.append(f"{name} is altered")
    return problems


def read_bundle(path: Path) -> Bundle:
    """A bundle of which only the manifest is checked, for the process that has just written it.

    Everybody else uses `open_bundle`. Raises BundleError.
    """
    file = path / MANIFEST
    if not file.is_file():
        raise BundleError(f"{path}: is no bundle (no {MANIFEST}); make one with vlacut compile")
    if file.stat().st_size > _MAX_MANIFEST_BYTES:
        raise BundleError(f"{file}: is larger than any manifest")
    data = file.read_bytes()
    digest = hashlib.sha256(data)
    recorded = path / MANIFEST_DIGEST
    if not recorded.is_file() or recorded.read_bytes() != f"{digest.hexdigest()}\n".encode():
        raise BundleError(f"{path}: {MANIFEST} or {MANIFEST_DIGEST} is altered")
    try:
        parsed = json.loads(data)
        prints = _prints(parsed)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{file}: is not JSON: {error}") from error
    if not isinstance(parsed, dict) or parsed.get("format") != FORMAT:
        raise BundleError(f"{file}: is not of bundle format {FORMAT}; compile it again")
    if not prints:
        raise BundleError(f"{file}: has text that would move a terminal's cursor; do not trust it")
    manifest = from_json(Manifest, parsed, MANIFEST)
    check_manifest(file, manifest)
    return Bundle(path, manifest, digest.digest(), read_half(path))


def _prints(data: object) -> bool:
    """Whether no text of plain data holds a control character but tabs and ends of lines."""
    if isinstance(data, str):
        return _CONTROLS.search(data) is None
    if isinstance(data, dict):
        return all(_prints(key) and _prints(each) for key, each in data.items())
    return all(map(_prints, data)) if isinstance(data, list) else True


def manifest_files(bundle: Bundle) -> dict[str, bytes]:
    """The manifest with its digest, and its signature where there is one, by name.

    Raises BundleError if the manifest changed since the bundle was opened.
    """
    data = (bundle.root / MANIFEST).read_bytes()
    if hashlib.sha256(data).digest() != bundle.digest:
        raise BundleError(f"{bundle.root}: {MANIFEST} is altered; copy the bundle again")
    found = {MANIFEST: data, MANIFEST_DIGEST: f"{bundle.digest.hex()}\n".encode()}
    signature = bundle.root / SIGNATURE
    return found | ({SIGNATURE: signature.read_bytes()} if signature.is_file() else {})
