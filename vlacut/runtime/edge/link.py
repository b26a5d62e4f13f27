"""The edge's link: a connection to the cloud that is made again when it is lost."""

from __future__ import annotations

import logging
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from vlacut.errors import InputError, PeerLoading, PeerLost, PeerRefused, PeerUnable, WireError
from vlacut.hardware import Side
from vlacut.plans.plan import Plan
from vlacut.runtime.wire.clock import CloudClock
from vlacut.runtime.wire.connection import Connection
from vlacut.runtime.wire.handshake import greet
from vlacut.runtime.wire.layout import Empty, Layout
from vlacut.runtime.wire.protocol.greeting import CHECKED, STAY
from vlacut.runtime.wire.remembered import memory_bytes, unpack_memory
from vlacut.runtime.wire.security import (
    is_loopback,
    require_authentication,
    secure,
    server_name,
)
from vlacut.runtime.wire.sockets import connected, set_options, written

_CONNECT_S = 3.0
_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 2.0

_log = logging.getLogger("vlacut.edge")


@dataclass(frozen=True)
class Endpoint:
    """Where the cloud is, and what to say there.

    Attributes:
        address: host and port.
        digest: of the bundle.
        token: of this session.
        deadline_s: seconds within which a step returns, 0 if none.
        timeout: seconds without any progress after which the cloud counts as lost.
        tls: None for a plain connection.
        insecure: whether it may be plain off loopback.
        checked: whether checksums cover tensors; if None, where nothing else guards them.
        stay: whether this robot was sent there, or was served there last.
    """

    address: tuple[str, int]
    digest: bytes
    token: bytes
    deadline_s: float
    timeout: float
    tls: ssl.SSLContext | None
    insecure: bool = False
    checked: bool | None = None
    stay: bool = False


@dataclass(frozen=True)
class Line:
    """A connection that works, the clock at its end, and what the cloud holds of this robot's
    state: keys by version.
    """

    connection: Connection
    clock: CloudClock
    cloud: dict[int, frozenset[str]] = field(default_factory=dict)


def dial(endpoint: Endpoint, plan: Plan, empty: Empty = np.empty) -> Line:
    """Connect: TCP, TLS and the handshake may take 3 s each, or the endpoint's `timeout` if less.

    Args:
        endpoint: where the cloud is.
        plan: of the bundle.
        empty: makes the room for what is received, of a shape and an element type.

    Raises PeerLost if nobody answers, PeerRefused if the cloud has another bundle, version or keys,
    PeerUnable if it is full, PeerLoading if it is loading the bundle, WireError if what answers is
    no cloud of vlacut.
    """
    host, limit = endpoint.address[0], min(endpoint.timeout, _CONNECT_S)
    try:
        require_authentication(host, endpoint.tls, endpoint.insecure)
    except InputError as error:  # where it was sent: where it may begin was asked before
        raise PeerRefused(f"this robot was sent where it may not go: {error}") from error
    checked = endpoint.checked
    if checked is None:
        checked = endpoint.tls is None and not is_loopback(host)
    try:
        plain = connected(endpoint.address, limit)
        set_options(plain, endpoint.timeout)
    except OSError as error:
        raise PeerLost(_nobody(endpoint.address, error)) from error
    asked = server_name(endpoint.digest)
    sock = secure(plain, endpoint.tls, limit, server=False, name=asked)
    try:
        deadline_ns = round(endpoint.deadline_s * 1e9)
        flags = (CHECKED if checked else 0) | (STAY if endpoint.stay else 0)
        first, told = greet(
            *(sock, endpoint.digest, endpoint.token, deadline_ns, limit, flags),
            memory_bytes=memory_bytes(plan),
        )
    except BaseException:
        sock.close()
        raise
    layout = Layout(plan, Side.EDGE, empty)
    connection = Connection(sock, layout, endpoint.timeout, checked=checked)
    return Line(connection, CloudClock(first), unpack_memory(plan, told))


def _nobody(address: tuple[str, int], error: OSError) -> str:
    """Why there is no connection, and what to do."""
    why = f"nobody answers at {written(*address)} ({error.strerror or error})"
    if isinstance(error, socket.gaierror):
        return f"{why}; give its address, or see to the name"
    if isinstance(error, TimeoutError):
        return f"{why}; see that vlacut serve runs there, and no firewall is between"
    return f"{why}; start vlacut serve there"


class CloudLink:
    """Holds a line, and dials again in the background, with growing pauses, once it is dropped.

    Args:
        dial: makes a line or raises WireError. The first one is made here, and now.
        patient: whether a cloud that is not there, or full, is dialled in the background from the
            first time on; if not, it raises what the dial did, but waits while the cloud loads the
            bundle.

    Attributes:
        line: that is held; None while there is none. What happens to it next, its user hears of.

    Raises what `dial` does; if `patient`, neither PeerLost nor PeerUnable.
    """

    def __init__(self, dial: Callable[[], Line], patient: bool = False) -> None:
        self._dial = dial
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._error: WireError | None = None
        self._jitter = random.Random()  # a program's own numbers stay what they were
        self._pause = 0.0  # before the next dial; grows until a line has carried an answer
        self.line: Line | None = None
        try:
            self.line = self._dial() if patient else self._dial_while_loading()
        except (PeerLost, PeerUnable) as error:
            if not patient:
                raise
            self._error, self._pause = error, self._longer()
            _log.warning("no connection yet: %s", error)
            self._dial_on()

    def _dial_while_loading(self) -> Line:
        """A line, waited for as long as the cloud says that it is loading the bundle."""
        while True:
            try:
                line = self._dial()
            except PeerLoading as error:
                if not self._pause:
                    _log.info("waiting: %s", error)
                self._pause = self._longer()
                time.sleep(self._pause)
            else:
                self._pause = 0.0
                return line

    def get(self, until: float) -> Line:
        """The line, once there is one.

        Raises PeerLost if there is none by `until`, in seconds on the clock of `time.monotonic`, or
        if the link was closed.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self.line or self._closed.is_set(), max(0.0, until - time.monotonic())
            )
            if self._closed.is_set():
                raise PeerLost("the session was closed")
            if self.line is None:
                raise PeerLost(f"no connection to the cloud: {self._error}") from self._error
            return self.line

    def drop(self, line: Line, error: Exception) -> None:
        """Give a line up; does nothing if it is not the one held."""
        with self._changed:
            if self.line is not line:
                return
            line.connection.close()
            self.line = None
            self._pause = 0.0 if line.connection.receiver.answered else self._longer()
            self._error = error if isinstance(error, WireError) else PeerLost(str(error))
            if self._closed.is_set():
                return
        _log.warning("connection dropped: %s", error)
        self._dial_on()

    def _dial_on(self) -> None:
        threading.Thread(target=self._redial, name="vlacut-redial", daemon=True).start()

    def close(self) -> None:
        """End the connection for good; calling it again does nothing."""
        self._closed.set()
        with self._changed:
            if self.line is not None:
                self.line.connection.close()
                self.line = None
            self._changed.notify_all()

    def _redial(self) -> None:
        # Jitter, lest robots that lost one server all come back at once.
        while not self._closed.wait(self._pause * self._jitter.uniform(0.5, 1.0)):
            try:
                line = self._dial()
            except Exception as error:  # whatever it was, the next dial may go better
                self._error = error if isinstance(error, WireError) else PeerLost(repr(error))
                self._pause = self._longer()
                continue
            self._hold(line)
            return

    def _longer(self) -> float:
        return min(max(_FIRST_PAUSE_S, 2 * self._pause), _LONGEST_PAUSE_S)

    def _hold(self, line: Line) -> None:
        with self._changed:
            if self._closed.is_set():
                line.connection.close()
                return
            self.line, self._error = line, None
            self._changed.notify_all()
        _log.info("connected")
