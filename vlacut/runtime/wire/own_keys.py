"""A machine's own keys, looked at before it starts: would anybody take them, and for how long?

The handshake is done in memory, with nobody: what checks a certificate is TLS itself, and with it
the dates, the authority and what the certificate is for.
"""

from __future__ import annotations

import ssl
import stat
import time
from contextlib import suppress
from pathlib import Path

from vlacut.errors import InputError
from vlacut.runtime.wire.security import (
    CA,
    CERTIFICATE,
    KEY,
    advice_for,
    cloud_context,
    edge_context,
)

WARN_DAYS = 30
_DAY_S = 86400.0
_MOST_ROUNDS = 8  # of messages; TLS 1.3 takes three


def check_keys(folder: Path, *, cloud: bool) -> list[str]:
    """What to warn of, a line each: keys that others may read, a certificate that ends soon.

    Args:
        folder: of one machine, as `vlacut keys` makes it.
        cloud: whether it is to be the cloud's, and not a robot's.

    Raises InputError if no other machine would take the keys, or anybody may write them.
    """
    open_to = [name for name in (CA, CERTIFICATE, KEY) if _mode(folder / name) & stat.S_IWOTH]
    if open_to:
        raise InputError(
            f"{folder / open_to[0]}: anybody may write it, and so choose whom this machine "
            f"believes; take that right away (chmod o-w), and make the keys anew if in doubt"
        )
    warnings = []
    if _mode(folder / KEY) & (stat.S_IRGRP | stat.S_IROTH):
        warnings.append(f"{folder / KEY}: others may read it; take that right away (chmod 600)")
    left = (_ends_s(folder, cloud) - time.time()) / _DAY_S
    if left < WARN_DAYS:
        warnings.append(
            f"{folder / CERTIFICATE}: the certificate ends in {left:.1f} days, and nobody takes "
            f"it then; make it anew with vlacut keys --renew"
        )
    return warnings


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError:
        return 0  # the contexts say what is missing


def _ends_s(folder: Path, cloud: bool) -> float:
    """When the certificate ends, in seconds since 1970, as the other side finds it."""
    mine, theirs = (cloud_context, edge_context) if cloud else (edge_context, cloud_context)
    mine(folder)  # says what is missing
    showing = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if cloud else ssl.PROTOCOL_TLS_CLIENT)
    showing.check_hostname, showing.verify_mode = False, ssl.CERT_NONE
    showing.load_cert_chain(folder / CERTIFICATE, folder / KEY)
    try:
        return _shown(showing, theirs(folder), server=cloud)
    except ssl.SSLError as error:
        reason = str(getattr(error, "verify_message", "") or error.reason or error).lower()
        raise InputError(
            f"{folder}: no other machine takes these keys ({reason}); {advice_for(reason)}"
        ) from error


def _shown(showing: ssl.SSLContext, believing: ssl.SSLContext, *, server: bool) -> float:
    """The end of the certificate that one side shows and the other one verifies."""
    ways = [ssl.MemoryBIO(), ssl.MemoryBIO()]
    one = showing.wrap_bio(ways[0], ways[1], server_side=server)
    other = believing.wrap_bio(ways[1], ways[0], server_side=not server)
    for _ in range(_MOST_ROUNDS):
        for side in (one, other):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
    found = other.getpeercert() or {}
    return float(ssl.cert_time_to_seconds(str(found["notAfter"])))
