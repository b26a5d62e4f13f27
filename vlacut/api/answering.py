"""Answers to HTTP requests by one thread: bounded, fair by address, and nobody waits for ever.

It knows `GET` of a path and closes the connection after every answer. A request has 8 KiB at most
and two seconds to come and to be answered; the fuller it is, the less. See `Lobby` for who leaves.
"""

from __future__ import annotations

import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus

from vlacut.errors import one_line
from vlacut.runtime.closing import Closing
from vlacut.runtime.cloud.crowds import Guest
from vlacut.runtime.cloud.lobby import Lobby
from vlacut.runtime.wire.sockets import listener

_log = logging.getLogger("vlacut.metrics")

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
_MOST, _RESERVED = 32, 8
_LONGEST_S, _SHORTEST_S = 2.0, 0.5
_MOST_BYTES = 8192
_AT_ONCE = 64
_POLL_S = 0.2
_REST_S = 0.05


@dataclass(frozen=True)
class Answer:
    """What a request gets."""

    body: bytes
    kind: str = "text/plain; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK

    def pack(self) -> bytes:
        """As it is sent."""
        head = (
            f"HTTP/1.1 {self.status.value} {self.status.phrase}\r\nContent-Type: {self.kind}\r\n"
            f"Content-Length: {len(self.body)}\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + self.body


Answers = Mapping[str, Callable[[str], Answer]]


class _Request:
    """A connection: what has come of its request, and what is still to be sent."""

    def __init__(self, sock: socket.socket, answers: Answers) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.left = b""
        self.understood = False
        self._answers = answers
        self._came = b""

    def advance(self) -> bool:
        """Go on as far as can be done at once; whether that is the end."""
        try:
            if not self.left:
                chunk = self.sock.recv(_MOST_BYTES)
                self._came += chunk
                if b"\r\n\r\n" in self._came:
                    self.left = self._answer().pack()
                elif not chunk or len(self._came) > _MOST_BYTES:
                    return True
            while self.left:
                self.left = self.left[self.sock.send(self.left) :]
                if not self.left:
                    return True
        except BlockingIOError:
            return False
        except OSError:
            return True
        return False

    def _answer(self) -> Answer:
        lines = self._came.decode("latin-1").split("\r\n")
        words = lines[0].split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return Answer(b"this is HTTP\n", status=HTTPStatus.BAD_REQUEST)
        self.understood = True
        path = words[1].partition("?")[0]
        if words[0] != "GET" or path not in self._answers:
            there = " and ".join(self._answers)
            return Answer(f"there are {there}\n".encode(), status=HTTPStatus.NOT_FOUND)
        accept = next((line[7:] for line in lines if line.lower().startswith("accept:")), "")
        try:
            return self._answers[path](accept.strip())
        except Exception as error:  # whatever a request makes of it, the next one is answered
            _log.warning("no answer to GET %s: %s", path, one_line(error))
            return Answer(b"this request failed\n", status=HTTPStatus.INTERNAL_SERVER_ERROR)


class HttpServer(Closing):
    """Answers requests from a thread of its own, until `close` or the end of the process.

    Args:
        host, port: where to listen, see `vlacut.runtime.wire.sockets.listener`.
        answers: by path; each is given what the request accepts.

    Attributes:
        address: host and port that it listens on.

    Raises InputError if the address cannot be had.
    """

    def __init__(self, host: str, port: int, answers: Answers) -> None:
        self._answers = answers
        self._lobby = Lobby(_MOST, _RESERVED, _LONGEST_S, _SHORTEST_S)
        self._events = selectors.DefaultSelector()
        self._listener = listener(host, port)
        self._listener.setblocking(False)
        self._events.register(self._listener, READ, None)
        self.address = host, int(self._listener.getsockname()[1])
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer no more: who has asked and has no answer gets none."""
        if self._ended.is_set():
            return
        self._ended.set()
        self._thread.join()
        for key in list(self._events.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]  # all are sockets
        self._events.close()

    def _serve(self) -> None:
        while not self._ended.is_set():
            ready = [key.data for key, _ in self._events.select(_POLL_S)]
            if None in ready:
                self._accept_all()
            now = time.monotonic()
            for guest in self._lobby.in_turn((each for each in ready if each is not None), now):
                if guest.here:
                    self._advance(guest)
            for guest in self._lobby.overdue(time.monotonic()):
                self._end(guest)

    def _accept_all(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                sock, peer = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:  # no file descriptors are left: who has waited longest makes room
                for guest in self._lobby.overdue(float("inf"))[:1]:
                    self._end(guest)
                time.sleep(_REST_S)
                return
            request = _Request(sock, self._answers)
            guest, out = self._lobby.enter(peer[0], time.monotonic(), request)
            if out is not None:
                self._end(out)
            self._events.register(sock, READ, guest)

    def _advance(self, guest: Guest) -> None:
        request: _Request = guest.holds
        if request.advance():
            if request.understood and not request.left:
                self._lobby.know(guest.address)
            self._end(guest)
        elif request.left:
            self._events.modify(request.sock, WRITE, guest)

    def _end(self, guest: Guest) -> None:
        self._lobby.leave(guest)
        self._events.unregister(guest.holds.sock)
        with suppress(OSError):
            guest.holds.sock.shutdown(socket.SHUT_WR)
        guest.holds.sock.close()
