"""The reception: accepts connections, and lets them through once they have greeted.

One thread accepts all connections, and carries each handshake on as its bytes come in. A robot gets
a thread of its own once its greeting is whole, and, with TLS, its keys are right. See `lobby` for
who has to wait, and who has to leave.
"""

from __future__ import annotations

import resource
import selectors
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from vlacut.errors import PeerLost, WireError
from vlacut.runtime.cloud.crowds import Guest
from vlacut.runtime.cloud.gate import Gate
from vlacut.runtime.cloud.lobby import Lobby
from vlacut.runtime.cloud.stranger import READ, Stranger
from vlacut.runtime.wire.handshake import refusal
from vlacut.runtime.wire.sockets import listener, reset, use_cubic, written

_POLL_S = 0.2
_REST_S = 0.05  # after a connection that could not be accepted, and nobody could be sent away for
_MOST_STRANGERS, _RESERVED = 256, 64
_SHARE = 4  # of the file descriptors that this process may have, strangers get a quarter at most
_LONGEST_S, _SHORTEST_S = 5.0, 1.0
_AT_ONCE = 256  # connections that are accepted before handshakes go on
_TURN_S = 0.02  # of work on handshakes before connections are accepted again
_LINGER_S, _MOST_LINGERING = 0.5, 32


class Reception:
    """Accepts connections, and starts a thread for each that has greeted.

    Args:
        host, port: where to listen, see `vlacut.runtime.wire.sockets.listener`.
        tls: in which; None for plain connections.
        digests: gives those of the bundles that it takes robots of.
        serve: what the thread does: told the stranger, which it owns.
        refused: told of a connection that was not taken: `lost` or `refused`, whose, and why.
        elsewhere: `HOST:PORT` of who takes robots of another digest; empty if nobody does.

    Attributes:
        address: host and port it listens on, or did.

    Raises InputError if the address cannot be had.
    """

    def __init__(
        self,
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
        digests: Callable[[], Sequence[bytes]],
        serve: Callable[[Stranger], None],
        refused: Callable[[str, str, str], None],
        elsewhere: Callable[[bytes], str] = lambda _: "",
    ) -> None:
        self._tls = tls
        self._digests, self._elsewhere = digests, elsewhere
        self._serve = serve
        self._refused = refused
        self._stopping = threading.Event()
        self._threads: set[threading.Thread] = set()
        most = min(_MOST_STRANGERS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _SHARE)
        self._lobby = Lobby(most, most * _RESERVED // _MOST_STRANGERS, _LONGEST_S, _SHORTEST_S)
        self._lingering: deque[tuple[float, Stranger]] = deque()
        self._events = selectors.DefaultSelector()
        self._listener = listener(host, port)
        listens_on = self._listener.getsockname()
        self.address = str(listens_on[0]), int(listens_on[1])
        use_cubic(self._listener)
        self._listener.setblocking(False)
        self._gate = Gate(self._listener, self._lobby, refused)
        self._events.register(self._listener, READ, None)

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Ask `receive_all` to return; for any thread, and signal handlers."""
        self._stopping.set()

    def receive_all(self) -> None:
        """Take connections until `stop` or `close`."""
        self.receive_while(lambda: not self.stopping)

    def receive_while(self, wanted: Callable[[], bool]) -> None:
        """Take connections as long as they are wanted, or until `close`."""
        try:
            while wanted() and self._listener.fileno() >= 0:
                self._turn()
        finally:
            self._dismiss_all()

    def know(self, peer: str) -> None:
        """Note that somebody from an address was let in: it need not wait behind unknown ones."""
        self._lobby.know(_address_of(peer))

    def close(self) -> None:
        """Listen no more; threads that serve go on."""
        self._listener.close()

    def wait(self, seconds: float) -> None:
        """Wait until all threads have ended, for so long at most."""
        end = time.monotonic() + seconds
        for thread in list(self._threads):
            thread.join(max(0.0, end - time.monotonic()))

    def _turn(self) -> None:
        """Accept who has come, and carry on the handshakes of which something has come."""
        ready = [key.data for key, _ in self._events.select(_POLL_S)]
        if None in ready:
            self._accept_all()
        now = time.monotonic()
        guests = self._lobby.in_turn((guest for guest in ready if guest is not None), now)
        for guest in guests:
            if guest.here:  # it may have had to make room
                self._advance(guest)
            if time.monotonic() - now > _TURN_S:
                break
        now = time.monotonic()
        for guest in self._lobby.overdue(now):
            self._send_away(guest, "it did not finish the handshake in time")
        while self._lingering and now - self._lingering[0][0] > _LINGER_S:
            self._lingering.popleft()[1].close()
        self._gate.look(now)

    def _accept_all(self) -> None:
        for _ in range(_AT_ONCE):
            now, start = time.monotonic(), time.thread_time()
            try:
                sock, peer = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                if self._listener.fileno() >= 0:  # else it was closed: nobody will come
                    self._cannot_accept(error)
                return
            if self._lobby.turned_back(peer[0], now):
                reset(sock)
                self._refused("refused", written(*peer[:2]), "too many connections from there")
            else:
                stranger = Stranger(sock, written(*peer[:2]), self._tls)
                guest, out = self._lobby.enter(peer[0], now, stranger)
                if out is not None:
                    self._send_away(out, "too many connections that have not said who they are")
                self._events.register(sock, READ, guest)
            self._note(peer[0], start)

    def _cannot_accept(self, error: OSError) -> None:
        """No file descriptors are left, say: who has waited longest makes room."""
        self._refused("refused", "somebody", f"cannot be accepted: {error.strerror}")
        while self._lingering:
            self._lingering.popleft()[1].close()
        oldest = self._lobby.overdue(float("inf"))[:1]
        for guest in oldest:
            self._send_away(guest, "this machine has no room for more connections")
        if not oldest:
            self._stopping.wait(_REST_S)

    def _advance(self, guest: Guest) -> None:
        stranger: Stranger = guest.holds
        start = time.thread_time()
        try:
            done = stranger.advance()
            greeted = stranger.greeting, stranger.arrived_ns
            said = refusal(*greeted, self._digests(), self._elsewhere) if done else None
        except WireError as error:
            self._forget(guest)
            event = "lost" if isinstance(error, PeerLost) else "refused"
            self._refused(event, stranger.peer, str(error))
            self._linger(stranger)
        else:
            if said is not None:
                self._forget(guest)
                self._refused("refused", stranger.peer, said[1])
                stranger.say(said[0])
                self._linger(stranger)
            elif done:
                self._forget(guest)
                self._start(stranger)
            elif self._events.get_key(stranger.number).events != stranger.waits:
                self._events.modify(stranger.number, stranger.waits, guest)
        self._note(guest.address, start)

    def _note(self, address: str, start: float) -> None:
        """Note what this thread computed for an address: what else kept it waiting on a loaded
        machine is nobody's fault.
        """
        self._lobby.note(address, time.thread_time() - start, time.monotonic())

    def _forget(self, guest: Guest) -> None:
        self._events.unregister(guest.holds.number)
        self._lobby.leave(guest)

    def _send_away(self, guest: Guest, why: str) -> None:
        self._forget(guest)
        reset(guest.holds.sock)
        self._refused("lost", guest.holds.peer, why)

    def _linger(self, stranger: Stranger) -> None:
        """Let it read why: who closes with bytes unread resets at once."""
        stranger.part()
        if stranger.drained() or len(self._lingering) >= _MOST_LINGERING:
            stranger.close()
        else:
            self._lingering.append((time.monotonic(), stranger))

    def _start(self, stranger: Stranger) -> None:
        thread = threading.Thread(
            target=self._serve, args=(stranger,), name=stranger.peer, daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:  # the system has no more threads
            stranger.close()
            self._refused("refused", stranger.peer, str(error))
            return
        self._threads = {thread for thread in self._threads if thread.is_alive()} | {thread}

    def _dismiss_all(self) -> None:
        for guest in self._lobby.overdue(float("inf")):
            self._forget(guest)
            guest.holds.close()
        while self._lingering:
            self._lingering.popleft()[1].close()


def _address_of(peer: str) -> str:
    """The host of what `written` wrote."""
    return peer.rpartition(":")[0].strip("[]")
