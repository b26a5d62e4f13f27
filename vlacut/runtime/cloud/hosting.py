"""Hosting: the bundles of a server, and the memory that they share.

A bundle is loaded for the first robot that asks for it. It stays loaded when its robots leave, and
is unloaded when memory is needed for another bundle, or for a robot: of those without robots the
one that was used longest ago goes first. One with robots never goes. Weights of the same content
count once, in however many bundles they are.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable

from vlacut.errors import InputError
from vlacut.plans.memory import Memory
from vlacut.runtime.cloud.deployment import Counts, Deployment, Offer
from vlacut.runtime.cloud.trials import InTurn, at_once

_log = logging.getLogger("vlacut.server")


class Hosting:
    """The bundles of a server, by digest. All methods may be called from any thread; what they are
    is read without waiting, for the thread that accepts connections does so.

    Args:
        device: bytes of memory of the machine; 0 if unknown, and then everything fits.
        in_turn: does something while no robot's engine runs.
    """

    def __init__(self, device: int, in_turn: InTurn = at_once) -> None:
        self._device, self._in_turn = device, in_turn
        self._lock = threading.RLock()
        self._all: dict[bytes, Deployment] = {}  # another one whenever it changes
        self._gone = Counts()  # of the bundles that are here no more

    @property
    def all(self) -> tuple[Deployment, ...]:
        """The bundles, oldest first."""
        return tuple(self._all.values())

    @property
    def counts(self) -> Counts:
        """What all bundles have done so far, also those that are here no more."""
        made = Counts()
        with self._lock:
            for each in (self._gone, *(one.counts for one in self._all.values())):
                made.add(each)
        return made

    def taking(self) -> tuple[bytes, ...]:
        """The digests of what takes robots, the newest first."""
        return tuple(one.digest for one in reversed(self.all) if one.retired_s is None)

    def find(self, digest: bytes) -> Deployment | None:
        """The bundle of a digest; None if there is none."""
        return self._all.get(digest)

    def add(self, offer: Offer) -> Deployment:
        """Take a bundle in, without loading it.

        One that was retired, and is here still, takes robots again.

        Raises InputError if it is here already, or no robot of it would fit into the memory, or a
        codec of its plan is not installed.
        """
        made = Deployment(offer, self._in_turn)
        taken = sum(made.weights.values()) + made.memory.robot
        if self._device and made.memory.robot and taken > self._device:
            raise InputError(
                f"the engines take {(taken - made.memory.robot) / 1e9:.4g} GB and a robot "
                f"{made.memory.robot / 1e9:.4g} GB; this {made.plan.cloud} has "
                f"{self._device / 1e9:.4g} GB: compile with a lower --cloud-budget, or give what "
                f"it has with --memory"
            )
        with self._lock:
            old = self._all.get(offer.digest)
            if old is not None and old.retired_s is not None:
                old.retired_s = None
                return old
            if old is not None:
                raise InputError(f"{made.name} ({offer.digest.hex()[:12]}) is served already")
            self._all = {**self._all, offer.digest: made}
        return made

    def retire(self, digest: bytes) -> None:
        """Let a bundle take no more robots; does nothing if it is not here."""
        found = self._all.get(digest)
        if found is not None and found.retired_s is None:
            found.retired_s = time.monotonic()

    def sweep(self) -> None:
        """Give up the retired bundles whose robots have left."""
        for one in self.all:
            if one.over:
                with self._lock:
                    self._all = {key: each for key, each in self._all.items() if each is not one}
                    self._gone.add(one.counts)
                if one.engines is not None:
                    one.unload()
                _log.info("gone: %s", one.name, extra={"event": "gone"})

    def close(self, seconds: float) -> None:
        """Give up what is loaded: the server has ended. What is being loaded gets so long."""
        end = time.monotonic() + seconds
        for one in self.all:
            one.close(max(0.0, end - time.monotonic()))

    def make_room(self, wanted: Deployment, sessions: Iterable[Deployment]) -> bool:
        """Whether a robot fits, beside the sessions there are; unloads what is idle for that.

        Args:
            wanted: its bundle.
            sessions: the bundle of each robot that is served.
        """
        if not self._device:
            return True
        taken = wanted.memory.robot + sum(one.memory.robot for one in sessions)
        with self._lock:
            while taken + self._weights(wanted) > self._device:
                idle = [one for one in self._all.values() if one.idle and one is not wanted]
                if not idle:
                    return False
                gone = min(idle, key=lambda one: one.used_s)
                gone.unload()
                _log.info("unloaded: %s, for memory", gone.name, extra={"event": "unloaded"})
        return True

    def most(self, served: Deployment) -> int | None:
        """How many robots of a bundle the memory holds beside what is loaded; None if any number.

        What other bundles' robots take is not counted.
        """
        with self._lock:
            return Memory(self._device, self._weights(served), served.memory.robot).robots

    def holds(self, sessions: Iterable[Deployment]) -> bool:
        """Whether the memory of so many robots fits beside what is loaded now.

        Args:
            sessions: the bundle of each.
        """
        taken = sum(one.memory.robot for one in sessions)
        with self._lock:
            return not self._device or taken + self._weights(None) <= self._device

    def _weights(self, wanted: Deployment | None) -> int:
        """Bytes of the distinct weights of what is loaded, and of what shall be."""
        held: dict[str, int] = {}
        for one in self._all.values():
            if one.active or one.sessions or one is wanted:
                held |= one.weights
        return sum(held.values())
