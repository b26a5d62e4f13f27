"""What is said on one connection of openpi's clients, in the dialect that it turns out to be."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from websockets.sync.server import ServerConnection

from vlacut.errors import ObservationError, VlacutError, WireError, one_line
from vlacut.integrations.openpi.packing import pack, unpack
from vlacut.integrations.openpi.policy import OpenpiPolicy

_OMNI_PATH = "/v1/realtime/robot/openpi"
_DONE = "reset successful"
_MOST_REASON = 120  # bytes of why a connection is closed (RFC 6455, section 5.5)
_WRONG = 1011
_log = logging.getLogger("vlacut.edge")


class Conversation:
    """The messages of one connection, and their answers.

    Args:
        policy: that answers.
        socket: of the client, which has heard the metadata.
        goes_on: whether the server serves.
    """

    def __init__(
        self, policy: OpenpiPolicy, socket: ServerConnection, goes_on: Callable[[], bool]
    ) -> None:
        self._policy, self._socket, self._goes_on = policy, socket, goes_on
        path = socket.request.path if socket.request else ""
        self._omni = path.partition("?")[0] == _OMNI_PATH
        self._session: object = None
        self._before_ms: float | None = None

    def hold(self) -> None:
        """Answer messages until the client leaves; raises ConnectionClosed then."""
        while True:
            message = self._socket.recv()
            began = time.perf_counter()
            try:
                answer = self._answer(message)
            except VlacutError as error:
                if not self._refuse(error):
                    return
            else:
                self._socket.send(answer)
                self._before_ms = (time.perf_counter() - began) * 1e3

    def _answer(self, message: str | bytes) -> str | bytes:
        if isinstance(message, str):
            raise WireError("the message is text; send an observation as msgpack in binary")
        sent = unpack(message)
        if not isinstance(sent, dict):
            raise ObservationError(f"the message is no map of an observation: {sent!r:.60}")
        endpoint = self._said(sent, "endpoint")
        if endpoint is not None and endpoint not in ("infer", "reset"):
            raise ObservationError(f"endpoint {endpoint!r:.40} is none; it is infer or reset")
        session = self._said(sent, "session_id")
        if endpoint == "reset" or (session is not None and session != self._session):
            self._session = session
            self._policy.reset()
        if endpoint == "reset":
            return pack({"status": _DONE}) if self._omni else _DONE
        made = self._policy.infer(sent, self._waits)
        if endpoint is not None or self._omni:
            return pack(made["actions"])
        if self._before_ms is not None:
            made["server_timing"]["prev_total_ms"] = self._before_ms
        return pack(made)

    def _said(self, sent: dict[str, Any], key: str) -> str | bytes | float | None:
        """What a message says of itself, unless the bundle has an input of that name."""
        said: Any = None if self._policy.fields.has(key) else sent.pop(key, None)
        said = said.tolist() if hasattr(said, "tolist") else said
        if said is not None and not isinstance(said, (str, bytes, int, float)):
            raise ObservationError(f"{key} is no text and no number")
        return said

    def _waits(self) -> bool:
        return bool(self._goes_on()) and self._socket.protocol.state.name == "OPEN"

    def _refuse(self, error: VlacutError) -> bool:
        """Say what is wrong with a request; whether the connection goes on."""
        said = one_line(error)
        _log.warning("a request was refused: %s", said, extra={"event": "refused"})
        if self._omni:
            self._socket.send(pack({"type": "error", "message": said}))
            return True
        self._socket.send(f"{type(error).__name__}: {said}")
        reason = f"{said.encode()[:_MOST_REASON].decode(errors='ignore')}"
        self._socket.close(_WRONG, reason)
        return False
