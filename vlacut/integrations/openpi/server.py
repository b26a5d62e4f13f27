"""The server that openpi's clients connect to, in three dialects.

A client opens a WebSocket, at any path; the server says first what it is, a map of metadata. Then
each message is an observation, and is answered by a chunk. `GET /healthz` says that it runs.

    dialect    known by                    a chunk is  reset is answered by  a wrong request by
    openpi     nothing else                a map       (none is ever sent)   a text, and the end
    RoboArena  `endpoint` in the message   the array   a text                a text, and the end
    vLLM-omni  /v1/realtime/robot/openpi   the array   a map with `status`   a map of type `error`

Sources: openpi, src/openpi/serving/websocket_policy_server.py; robo-arena/roboarena,
roboarena/policy_server.py; vllm-project/vllm-omni, vllm_omni/entrypoints/openpi/connection.py.

An episode begins with a connection, a `reset`, and another `session_id`. One client drives the
robot at a time. Its thread computes; that of the library answers pings meanwhile, for clients end
connections that are silent for longer than 20 s.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from vlacut.errors import InputError, ObservationError, VlacutError, WireError, one_line
from vlacut.integrations.openpi.packing import pack, unpack
from vlacut.integrations.openpi.policy import OpenpiPolicy
from vlacut.runtime.wire.security import require_authentication
from vlacut.runtime.wire.sockets import listener

_OMNI_PATH = "/v1/realtime/robot/openpi"
_DONE = "reset successful"
_SPARE_BYTES = 1 << 16  # of a message, for keys, text and what a bundle leaves out
_MOST_REASON = 120  # bytes of why a connection is closed (RFC 6455, section 5.5)
_WRONG, _BUSY, _GOING = 1011, 1013, 1001
_LEAVES_S = 2.0  # that a client may take to leave, before the next one is turned away
_log = logging.getLogger("vlacut.edge")


class OpenpiServer:
    """Listens for openpi's clients, and answers them by a policy.

    Args:
        policy: that answers; its session must be ready: engines that have not run yet are slow.
        host, port: where to listen; port 0 takes a free one.
        insecure: allow another host than loopback: this wire has no encryption and no keys.
        metadata: what a client is told first, in the place of what is known of the bundle.
        most_bytes: of a message; what the bundle's inputs take at most, if not given.

    Attributes:
        policy: that answers.
        address: host and port it listens on.

    Raises InputError if the address cannot be had, or metadata cannot be sent.
    """

    def __init__(
        self,
        policy: OpenpiPolicy,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        insecure: bool = False,
        metadata: Mapping[str, Any] = MappingProxyType({}),
        most_bytes: int | None = None,
    ) -> None:
        require_authentication(host, None, insecure)
        known = {"action_horizon": policy.horizon, "action_dim": policy.width}
        try:
            self._hello = pack(dict(metadata or known))
        except WireError as error:
            raise InputError(f"metadata {error}") from error
        self.policy, self._turn = policy, threading.Lock()
        self._client: ServerConnection | None = None
        self._stopping = False
        sock = listener(host, port)
        self.address: tuple[str, int] = sock.getsockname()[:2]
        self._server = serve(
            self._handle,
            sock=sock,
            compression=None,
            # A page in a browser of this machine sends an origin, and openpi's clients none.
            origins=[None],
            process_request=_health,
            max_size=most_bytes or policy.fields.most_bytes + _SPARE_BYTES,
            max_queue=2,
            logger=_quiet(),
        )

    def serve_forever(self) -> None:
        """Serve until `shutdown`."""
        self._server.serve_forever()

    def shutdown(self) -> None:
        """Listen no more, and end the client's connection once its step is over.

        For another thread than the one of `serve_forever`, or once that one was interrupted.
        """
        self._stopping = True
        self._server.shutdown()
        client = self._client
        if client is not None:
            client.close(_GOING, "vlacut run was ended")

    def _handle(self, socket: ServerConnection) -> None:
        """One client, from its first message to its end."""
        if not self._turn.acquire(timeout=_LEAVES_S):
            socket.close(_BUSY, "another client drives this robot; end it first")
            return
        self._client = socket
        try:
            self.policy.reset()
            socket.send(self._hello)
            _log.info("a client of openpi connected", extra={"event": "connected"})
            _Conversation(self.policy, socket, lambda: not self._stopping).hold()
        except ConnectionClosed as closed:
            _log.info("a client of openpi left: %s", one_line(closed), extra={"event": "left"})
        finally:
            self._client = None
            self._turn.release()


class _Conversation:
    """What is said on one connection."""

    def __init__(self, policy: OpenpiPolicy, socket: ServerConnection, goes_on: Any) -> None:
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
        if endpoint not in (None, "infer", "reset"):
            raise ObservationError(f"endpoint {endpoint!r:.40} is none; it is infer or reset")
        session = self._said(sent, "session_id")
        session = session.tolist() if hasattr(session, "tolist") else session
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

    def _said(self, sent: dict[str, Any], key: str) -> Any:
        """What a message says of itself, unless the bundle has an input of that name."""
        return None if self._policy.fields.has(key) else sent.pop(key, None)

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


def _health(connection: ServerConnection, request: Request) -> Response | None:
    """The answer to `GET /healthz`; None for what opens a WebSocket."""
    if request.path == "/healthz":
        return connection.respond(HTTPStatus.OK, "OK\n")
    return None


def _quiet() -> logging.Logger:
    """A logger without the traceback of every stranger that says nonsense."""
    logger = logging.getLogger("vlacut.edge.websockets")
    logger.setLevel(logging.ERROR)
    logger.addFilter(_is_ours)
    return logger


def _is_ours(record: logging.LogRecord) -> bool:
    return "handshake" not in record.getMessage()
