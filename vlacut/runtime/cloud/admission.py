"""Admission: which robots are let in, to which bundle, and who takes the others."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace

from vlacut.errors import PeerLost
from vlacut.runtime.cloud.deployment import Deployment
from vlacut.runtime.cloud.directory import Directory, Standing
from vlacut.runtime.cloud.hosting import Hosting
from vlacut.runtime.cloud.memory import RobotMemory
from vlacut.runtime.cloud.robots import Robots
from vlacut.runtime.cloud.stranger import Stranger
from vlacut.runtime.wire.handshake import NoRoom, answer_to
from vlacut.runtime.wire.protocol.greeting import STAY, Greeting, Status
from vlacut.runtime.wire.security import peer_name
from vlacut.runtime.wire.sockets import set_options

_HANDSHAKE_S = 5.0
_LOADING_S = 0.25  # that a robot waits for its bundle in its handshake; then it dials again


class Admission:
    """Lets robots in, each by its handshake.

    Args:
        robots: those that are here.
        hosting: the bundles.
        directory: of the other servers; None where there are none.
        draining: whether the server takes no robots any more.
        standing: how full the server is.
    """

    def __init__(
        self,
        robots: Robots,
        hosting: Hosting,
        directory: Directory | None,
        draining: Callable[[], bool],
        standing: Callable[[], Standing],
    ) -> None:
        self._robots, self._hosting, self._directory = robots, hosting, directory
        self._draining, self._standing = draining, standing

    def admit(
        self, stranger: Stranger, timeout: float
    ) -> tuple[socket.socket, Greeting, Deployment, RobotMemory | None]:
        """The connection of a robot that may be served, what it said, its bundle, its memory.

        Args:
            stranger: who has greeted.
            timeout: of the connection, in seconds.

        Raises PeerLost if it hung up, WireError if it is not let in.
        """
        sock = stranger.sock
        try:
            set_options(sock, timeout)
            sock.settimeout(_HANDSHAKE_S)
        except OSError as error:
            sock.close()
            raise PeerLost(f"it hung up at once: {error.strerror}") from error
        memory: RobotMemory | None = None

        def told(greeting: Greeting) -> bytes:
            nonlocal memory
            memory = self._robots.recall(greeting.token, self._asked(greeting))
            return memory.told() if memory else b""

        try:
            greeting = answer_to(
                *(sock, stranger.greeting, stranger.arrived_ns, self._hosting.taking()),
                lambda found: self._no_room(found, sock),
                told,
            )
        except BaseException:  # also of a robot that had its room, and hung up before it heard
            if memory is not None:
                memory.release()
            self.dismiss(sock, True)
            raise
        return sock, greeting, self._asked(greeting), memory

    def _asked(self, greeting: Greeting) -> Deployment:
        """The bundle that a robot greeted with, which is one of those here."""
        found = self._hosting.find(greeting.digest)
        assert found is not None
        return found

    def dismiss(self, sock: socket.socket, lost: bool) -> None:
        """A robot leaves; `lost` where it did so without a word."""
        self._robots.leave(sock, lost)
        sock.close()

    def _no_room(self, greeting: Greeting, sock: socket.socket) -> NoRoom | None:
        """Why a robot is not let in, and who takes it instead; None if it is let in."""
        better = ""
        if self._directory is not None and not greeting.flags & STAY and not self._draining():
            better = self._directory.place(greeting.digest, self._standing())
        if better:
            return NoRoom("another server is less full", place=better)
        no = self._not_here(greeting, sock)
        if no is not None and no.status == Status.FULL:
            return replace(no, place=self.elsewhere(greeting.digest))
        return no

    def _not_here(self, greeting: Greeting, sock: socket.socket) -> NoRoom | None:
        """Why a robot is not let in; None if it is, and its bundle is loaded."""
        if self._draining():
            return NoRoom("the server is stopping")
        served = self._hosting.find(greeting.digest)
        if served is None or served.retired_s is not None:
            return NoRoom("its bundle is retired")
        why = self._robots.admit(greeting, sock, served, peer_name(sock))
        if why:
            return NoRoom(why)
        if served.engines is None:
            served.begin_loading()
            loading = not served.wait(_LOADING_S)
            if loading or served.engines is None:
                self._robots.leave(sock)
                return NoRoom(served.why_not, Status.LOADING if loading else Status.FULL)
        return None

    def elsewhere(self, digest: bytes) -> str:
        """The address of another server that takes robots of a bundle; empty for none."""
        return self._directory.place(digest) if self._directory is not None else ""
