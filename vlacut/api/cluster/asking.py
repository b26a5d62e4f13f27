"""Asking a server how it is: its page of metrics, read and checked."""

from __future__ import annotations

import http.client
import json
from typing import Any

from vlacut.errors import PeerLost, WireError, one_line
from vlacut.runtime.wire.sockets import written

_TIMEOUT_S = 5.0
_MOST_BYTES = 1 << 22


def fetch_status(host: str, port: int, timeout: float = _TIMEOUT_S) -> dict[str, Any]:
    """What `/status` of a server says, within so many seconds for each of its bytes.

    Raises PeerLost if nobody answers, WireError if it is no server's.
    """
    where = written(host, port)
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request("GET", "/status")
        answer = connection.getresponse()
        data = answer.read(_MOST_BYTES + 1)
    except (OSError, http.client.HTTPException) as error:
        raise PeerLost(
            f"{where} does not answer: {one_line(error)}; it is the port of vlacut serve --metrics"
        ) from error
    finally:
        connection.close()
    try:
        if answer.status != http.client.OK or len(data) > _MOST_BYTES:
            raise ValueError(f"it answers {answer.status}")
        found: dict[str, Any] = json.loads(data)
        _check(found)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WireError(
            f"{where} is no page of vlacut serve --metrics: {one_line(error)}"
        ) from error
    return found


_NUMBERS = ("robots", "most_robots", "load", "memory_bytes")
_COUNTS = ("robots", "most_robots")
_MOST = 1 << 63  # of any figure
_OF_A_BUNDLE = ("robots", "steps", "step_ms", "weights_bytes", "robot_bytes", "loaded", "retired")


def _check(found: Any) -> None:
    """Raises ValueError, KeyError or TypeError if it is not what `status_of` makes."""
    for name in ("version", "health", "instance"):
        found[name] = one_line(found[name])
    numbers = [found[name] for name in _NUMBERS]
    for one in found["bundles"]:
        one["name"], one["digest"] = one_line(one["name"]), bytes.fromhex(one["digest"]).hex()
        numbers += [one[name] for name in _OF_A_BUNDLE]
    if not all(isinstance(one, (int, float)) and 0 <= one < _MOST for one in numbers):
        raise ValueError("a figure of it is no number from 0 on")
    if not all(isinstance(found[name], int) for name in _COUNTS):
        raise ValueError("a count of it is no whole number")
