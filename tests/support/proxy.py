"""A proxy between edge and cloud that hurts what passes, at a byte of one's choice."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass
from types import TracebackType

UP, DOWN = "up", "down"
_CHUNK = 1 << 16
_OVERTAKEN_S = 1.0


@dataclass(frozen=True)
class Fault:
    """What happens once `after` more bytes have passed in a direction.

    Attributes:
        kind: `cut` both ways; `reset` both ways; `stall` this connection from there on, in this
            direction; `delay` it by `seconds`; `duplicate` the `count` bytes before; `corrupt` the
            byte there; `drop` the `count` bytes there; `overtake`: what follows comes after the
            first bytes of the next connection, or after a second if there is none.
        direction: UP is to the cloud.
        after: bytes.
        seconds: of a delay.
        count: of bytes.
    """

    kind: str
    direction: str
    after: int
    seconds: float = 0.0
    count: int = 1


class Proxy:
    """Forwards connections to `target`; `arm` sets the next fault.

    Attributes:
        passed: bytes by direction, since the start.
        struck: faults that happened.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.passed = {UP: 0, DOWN: 0}
        self.struck = 0
        self._fault: Fault | None = None
        self._at = 0
        self._latest = 0  # number of the last connection that carried something
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        self._spawn(self._accept)

    def arm(self, fault: Fault | None) -> None:
        """Set the next fault, instead of the one before."""
        with self._lock:
            self._fault = fault
            self._at = self.passed[fault.direction] + fault.after if fault else 0

    def hang_up(self) -> None:
        """End all connections."""
        with self._lock:
            sockets, self._sockets = self._sockets, []
        for sock in sockets:
            _shut(sock)

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        _shut(self._listener)
        self._listener.close()
        self.hang_up()
        for thread in list(self._threads):
            thread.join(5)

    def _spawn(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads = [each for each in self._threads if each.is_alive()] + [thread]
        thread.start()

    def _accept(self) -> None:
        number = 0
        while True:
            try:
                edge, _ = self._listener.accept()
            except OSError:
                return
            try:
                cloud = socket.create_connection(self.target, 1)
            except OSError:
                edge.close()
                continue
            cloud.settimeout(None)
            for sock in (edge, cloud):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._sockets += (edge, cloud)
            number += 1
            halves = _Halves(edge, cloud, number)
            self._spawn(self._pump, halves, UP)
            self._spawn(self._pump, halves, DOWN)

    def _pump(self, halves: _Halves, direction: str) -> None:
        source, sink = halves.ends(direction)
        try:
            while data := source.recv(_CHUNK):
                if not self._pass(data, sink, direction, halves):
                    return
        except OSError:
            pass
        finally:
            halves.done()

    def _let_overtake(self, halves: _Halves) -> None:
        """Wait until a later connection has carried something."""
        end = time.monotonic() + _OVERTAKEN_S
        while self._latest <= halves.number and time.monotonic() < end:
            if self._closing.wait(0.005):
                return

    def _pass(self, data: bytes, sink: socket.socket, direction: str, halves: _Halves) -> bool:
        """Forward a chunk, hurt where the fault is due; False if the direction is over."""
        with self._lock:
            fault, at = self._fault, self._at - self.passed[direction]
            due = fault is not None and fault.direction == direction and at < len(data)
            self.passed[direction] += len(data)
            self._latest = max(self._latest, halves.number)
            if due:
                self._fault = None
                self.struck += 1
        if fault is None or not due:
            sink.sendall(data)
            return True
        before, after = data[: max(at, 0)], data[max(at, 0) :]
        sink.sendall(before)
        if fault.kind in ("cut", "reset"):
            halves.end(reset=fault.kind == "reset")
            return False
        if fault.kind == "stall":
            while not self._closing.wait(0.02) and not halves.over(direction):
                pass
            return False
        if fault.kind == "overtake":
            self._let_overtake(halves)
        elif fault.kind == "delay":
            self._closing.wait(fault.seconds)
        elif fault.kind == "duplicate":
            after = data[max(at - fault.count, 0) : max(at, 0)] + after
        elif fault.kind == "corrupt":
            after = bytes((after[0] ^ 0x5A,)) + after[1:]
        elif fault.kind == "drop":
            after = after[fault.count :]
        sink.sendall(after)
        return True


class _Halves:
    """Both ends of one forwarded connection, the `number`th."""

    def __init__(self, edge: socket.socket, cloud: socket.socket, number: int) -> None:
        self.number = number
        self._edge, self._cloud = edge, cloud
        self._lock = threading.Lock()
        self._pumps = 2

    def ends(self, direction: str) -> tuple[socket.socket, socket.socket]:
        """Where bytes come from, and where they go."""
        return (self._edge, self._cloud) if direction == UP else (self._cloud, self._edge)

    def over(self, direction: str) -> bool:
        """Whether the source hung up."""
        source, _ = self.ends(direction)
        try:
            source.setblocking(False)
            return not source.recv(_CHUNK)  # a stalled direction swallows what comes
        except BlockingIOError:
            return False
        except OSError:
            return True

    def end(self, reset: bool) -> None:
        """End both."""
        for sock in (self._edge, self._cloud):
            if reset:
                linger = b"\1\0\0\0\0\0\0\0"
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            _shut(sock)

    def done(self) -> None:
        """A pump is: its other half will be soon, and then the sockets are closed."""
        for sock in (self._edge, self._cloud):
            _shut(sock)
        with self._lock:
            self._pumps -= 1
            last = not self._pumps
        if last:
            self._edge.close()
            self._cloud.close()


def _shut(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it has ended already


def wait_until(what: object, seconds: float = 60.0) -> bool:
    """Whether a condition comes true in time."""
    end = time.monotonic() + seconds
    while not what():  # type: ignore[operator]
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True
