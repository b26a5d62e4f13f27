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
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from vlacut.errors import InputError, WireError, one_line
from vlacut.integrations.openpi.conversation import Conversation
from vlacut.integrations.openpi.packing import pack
from vlacut.integrations.openpi.policy import OpenpiPolicy
from vlacut.runtime.wire.security import require_authentication
from vlacut.runtime.wire.sockets import listener

_SPARE_BYTES = 1 << 16  # of a message, for keys, text and what a bundle leaves out
_BUSY, _GOING = 1013, 1001
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
            Conversation(self.policy, socket, lambda: not self._stopping).hold()
        except ConnectionClosed as closed:
            _log.info("a client of openpi left: %s", one_line(closed), extra={"event": "left"})
        finally:
            self._client = None
            self._turn.release()


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
