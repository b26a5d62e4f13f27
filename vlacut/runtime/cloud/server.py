"""The cloud's side of a deployment: one process, many robots, a thread and a connection each.

What one robot does harms no other: a thread serves it alone, what it may send is bounded by the
plan, engines are shared in turns, and a robot that sends faster than it is served is held back by
its own connection. Robots of several bundles are told apart by the digest that they greet with.
Events go to the logger `vlacut.server`, with `event` and `robot` as extras: where it connects from,
after the name in its certificate where it has one.
"""

from __future__ import annotations

import logging
import secrets
import ssl
import time
from collections.abc import Sequence
from dataclasses import replace

from vlacut.errors import PeerLost, WireError
from vlacut.plans.memory import UNKNOWN, Memory
from vlacut.runtime.cloud.admission import Admission
from vlacut.runtime.cloud.attending import Attendant
from vlacut.runtime.cloud.deployment import Counts, Deployment, Offer
from vlacut.runtime.cloud.directory import Directory, Standing
from vlacut.runtime.cloud.events import Events
from vlacut.runtime.cloud.hosting import Hosting
from vlacut.runtime.cloud.reception import Reception
from vlacut.runtime.cloud.robots import Robots
from vlacut.runtime.cloud.stranger import Stranger
from vlacut.runtime.cloud.turns import Turns
from vlacut.runtime.wire.protocol.greeting import CHECKED
from vlacut.runtime.wire.security import peer_name, require_authentication
from vlacut.runtime.wire.sockets import written

_COME_BACK_S = 1.0  # that robots have to be sent on, once the last has left a server that ends

_log = logging.getLogger("vlacut.server")


class Server:
    """Serves the cloud parts of one bundle, or of several.

    Args:
        offers: the bundles. One alone is loaded now; of several each for its first robot, see
            `vlacut.runtime.cloud.hosting`. Engines run one at a time, whosever they are.
        host, port: where to listen; port 0 takes a free one, see `address`.
        tls: of `vlacut.runtime.wire.security.cloud_context`.
        insecure: allow another host than loopback without `tls`.
        timeout: seconds without progress within a step after which a robot counts as lost.
        most_robots: at a time; more are refused, see `Robots.admit`.
        memory: bytes of this machine; if None, what the plans' device has, the least of several.
        directory: of the other servers, where robots are sent that are better served there.

    Attributes:
        instance: names this server among others, whatever its address.

    Raises InputError if the address cannot be had, peers there would not be authenticated, no robot
    fits the memory beside the engines, a codec of a plan is not installed, or a bundle is there
    twice; and what loading one does.
    """

    def __init__(
        self,
        offers: Sequence[Offer],
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        tls: ssl.SSLContext | None = None,
        insecure: bool = False,
        timeout: float = 10.0,
        most_robots: int = 64,
        memory: int | None = None,
        directory: Directory | None = None,
    ) -> None:
        require_authentication(host, tls, insecure)
        known = [offer.plan.memory.device for offer in offers if offer.plan.memory.device]
        self._device = min(known, default=0) if memory is None else memory
        self._turns = Turns()
        self._hosting = Hosting(self._device, self._turns.alone)
        for offer in offers:
            self._hosting.add(offer)
        if len(offers) == 1:
            self._hosting.all[0].load()
        self.instance = secrets.token_hex(8)
        self._directory = directory
        self._timeout = timeout
        self._most_robots = most_robots
        self._robots = Robots(most_robots, self._hosting)
        self._events = Events()
        self._admission = Admission(
            self._robots, self._hosting, directory, lambda: self.draining, lambda: self.standing
        )
        digests, elsewhere = self._hosting.taking, self._admission.elsewhere
        refuse = self._events.refuse
        self._reception = Reception(host, port, tls, digests, self._serve, refuse, elsewhere)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port it listens on."""
        return self._reception.address

    @property
    def bundles(self) -> tuple[Deployment, ...]:
        """What it serves, oldest first."""
        return self._hosting.all

    @property
    def robots(self) -> int:
        """How many it serves now."""
        return len(self._robots)

    @property
    def load(self) -> float:
        """Seconds of engines that its robots take of every second, by their deadlines."""
        return self._robots.load

    @property
    def memory(self) -> Memory:
        """Of the machine, and what the bundle that it was given first takes of it."""
        known = [one.memory for one in self.bundles]
        return replace(known[0] if known else UNKNOWN, device=self._device)

    @property
    def most_robots(self) -> int:
        """How many it serves at a time, if their deadlines leave the engines time."""
        fits = [replace(one.memory, device=self._device).robots for one in self.bundles]
        return min([self._most_robots, *(fit for fit in fits if fit is not None)])

    @property
    def standing(self) -> Standing:
        """How full it is, at the address that it listens on; it takes no robots when it ends."""
        digests = frozenset(() if self.draining else self._hosting.taking())
        where = written(*self.address)
        return Standing(where, digests, self.robots, self.most_robots, self.load)

    @property
    def counts(self) -> Counts:
        """What it has done so far, for all bundles that it ever had."""
        made = self._hosting.counts
        self._events.add_to(made)
        return made

    @property
    def draining(self) -> bool:
        """Whether `shutdown` was called: it takes no robots, and ends when the steps do."""
        return self._reception.stopping

    @property
    def stuck_s(self) -> float:
        """For how long an engine has run, if that is longer than robots wait; else 0.

        It holds up all robots, and cannot be interrupted: the process has to be started anew.
        """
        lasts = self._turns.lasts_s
        return lasts if lasts > self._timeout else 0.0

    def serve_forever(self) -> None:
        """Serve until `shutdown`; then let steps that have begun end, for at most `timeout`.

        Robots that come meanwhile are sent elsewhere, where there is a directory.
        """
        try:
            self._reception.receive_all()
            if self._directory is not None:
                self._send_on()
        finally:
            self.close()
            self._drain()

    def _send_on(self) -> None:
        """Send who comes elsewhere, until the robots have left and had time to come back for it."""
        end, last = time.monotonic() + self._timeout, time.monotonic()

        def wanted() -> bool:
            nonlocal last
            now = time.monotonic()
            last = now if self.robots else last
            return now < min(end, last + _COME_BACK_S)

        self._reception.receive_while(wanted)

    def _drain(self) -> None:
        _log.info("draining: %d robots", self.robots, extra={"event": "draining"})
        self._reception.wait(self._timeout)
        late = self.robots
        self._robots.hang_up()
        how = f"{late} steps did not end in {self._timeout:g} s" if late else "no step was cut off"
        level = logging.WARNING if late else logging.INFO
        self._hosting.close(self._timeout)
        _log.log(level, "stopped: %s", how, extra={"event": "stopped"})

    def add(self, offer: Offer) -> None:
        """Serve another bundle, too; raises as for those that it was given first."""
        self._hosting.add(offer)

    def retire(self, digest: bytes) -> None:
        """Take no more robots of a bundle; `sweep` gives it up once the last has left."""
        self._hosting.retire(digest)

    def sweep(self) -> None:
        """Give up the retired bundles whose robots have left."""
        self._hosting.sweep()

    def close(self) -> None:
        """Listen no more; for who does not call `serve_forever`."""
        self._reception.close()

    def shutdown(self) -> None:
        """Ask `serve_forever` to return; safe from a signal handler or another thread."""
        self._reception.stop()

    def _serve(self, stranger: Stranger) -> None:
        """One robot, from handshake to end; whatever it does, the others go on."""
        peer = stranger.peer
        served: Deployment | None = None
        try:
            sock, greeting, served, memory = self._admission.admit(stranger, self._timeout)
            self._reception.know(peer)
            name = peer_name(sock)
            peer = f"{name}@{peer}" if name else peer
            lost = True
            mine = served

            def note(event: str, why: str) -> None:
                self._events.note(mine, event, peer, why)

            try:
                deadline_s = greeting.second_ns * 1e-9
                attendant = Attendant(
                    served, self._turns, memory, lambda: self.draining, note, deadline_s
                )
                checked = bool(greeting.flags & CHECKED)
                lost = attendant.serve(sock, self._timeout, checked)
            finally:
                self._admission.dismiss(sock, lost)
        except PeerLost as error:
            self._events.note(served, "lost", peer, str(error))
        except WireError as error:
            self._events.note(served, "refused", peer, str(error))
