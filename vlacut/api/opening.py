"""What both sides do first: open the bundle, signed by whom it must be, and the keys."""

from __future__ import annotations

import logging
import os
import ssl
from pathlib import Path

from vlacut.bundle.opened import Bundle
from vlacut.bundle.reading import read_bundle
from vlacut.errors import InputError
from vlacut.hardware import Side
from vlacut.runtime.wire.own_keys import check_keys
from vlacut.runtime.wire.security import cloud_context, edge_context

_log = logging.getLogger("vlacut.server")
_edge_log = logging.getLogger("vlacut.edge")


def open_signed(
    bundle: str | os.PathLike[str], trusted: str | os.PathLike[str] | None, side: Side | None
) -> Bundle:
    """A bundle by its manifest, signed by whom it must be, with the files of a side.

    What holds its engines checks the files; None if they are emulated, of the manifest alone.
    """
    opened = read_bundle(Path(bundle))
    if side is not None:
        opened.require(side)
    if trusted is not None:
        try:
            from vlacut.security.signing import check_signature
        except ImportError as error:
            raise InputError(
                f"checking a signature needs {error.name}: pip install 'vlacut[keys]'"
            ) from error
        check_signature(opened, Path(trusted))
    return opened


def tls_context(folder: str | os.PathLike[str] | None, *, cloud: bool) -> ssl.SSLContext | None:
    """TLS with the keys of a folder, once it is known that another machine would take them."""
    if folder is None:
        return None
    for line in check_keys(Path(folder), cloud=cloud):
        (_log if cloud else _edge_log).warning("%s", line)
    return (cloud_context if cloud else edge_context)(Path(folder))
