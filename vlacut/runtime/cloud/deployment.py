"""Deployment: a bundle on a server, with its engines while they are loaded.

A bundle is loaded for the first robot that asks for it, and given up when others need its memory
and nobody uses it, see `vlacut.runtime.cloud.hosting`.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np

from vlacut.backend import Engine
from vlacut.errors import told
from vlacut.hardware import Side
from vlacut.plans.memory import Memory
from vlacut.plans.plan import Plan
from vlacut.plans.state import initial_state
from vlacut.runtime.cloud.batches import Batches, batches_of
from vlacut.runtime.cloud.memory import RobotMemory
from vlacut.runtime.cloud.trials import InTurn, at_once
from vlacut.runtime.tally import Tally
from vlacut.runtime.wire.pictures import require_libraries
from vlacut.runtime.wire.route import first_routes_of, routes_of

_GRACE_S = 6.0  # after it was retired: who has greeted by then is in, or was refused

Load = Callable[[], Mapping[str, Engine]]


@dataclass
class Counts:
    """What a server, or one of its bundles, has done so far.

    Attributes:
        events: `connected`, `left`, `lost`, `refused`, `failed`, `replaced`, by how often.
        steps: served to their end.
        abandoned: steps that the edge gave up.
        engine_s: seconds that engines ran in the steps served to their end.
        part_s: seconds by part, waiting for a turn included.
        received, sent: bytes of tensors.
    """

    events: Counter[str] = field(default_factory=Counter)
    steps: int = 0
    abandoned: int = 0
    engine_s: float = 0.0
    part_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    received: int = 0
    sent: int = 0

    def add(self, other: Counts) -> None:
        """Add what another has done."""
        self.events.update(other.events)
        for name, seconds in other.part_s.items():
            self.part_s[name] += seconds
        self.steps += other.steps
        self.abandoned += other.abandoned
        self.engine_s += other.engine_s
        self.received += other.received
        self.sent += other.sent


@dataclass(frozen=True)
class Offer:
    """A bundle as a server is given it.

    Attributes:
        plan: of the bundle.
        digest: of the bundle.
        load: its engines by name of part, all cloud parts, and those of their batches that it
            shall use, by `batch_name`; may take long, and be called again after `unload`.
        unload: called once its engines are given up, or could not be loaded.
        initial: state in the first step of an episode, by key, where it is not zeros.
        weights: bytes of each distinct weight of its engines, by content; bundles that share one
            hold it once. Empty if unknown: then the plan's sum counts.
        name: what people call it.
    """

    plan: Plan
    digest: bytes
    load: Load
    unload: Callable[[], None] = lambda: None
    initial: Mapping[str, np.ndarray] = field(default_factory=dict)
    weights: Mapping[str, int] = field(default_factory=dict)
    name: str = ""


def ready(
    plan: Plan,
    digest: bytes,
    engines: Mapping[str, Engine],
    initial: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> Offer:
    """An offer of a bundle whose engines are there: by name of part, all cloud parts."""
    return Offer(plan, digest, lambda: engines, initial=initial)


class Deployment:
    """A bundle on a server. All methods may be called from any thread.

    Args:
        offer: the bundle. Raises InputError if a codec of its plan is not installed.
        in_turn: does something while no robot's engine runs: see `Batches`.

    Attributes:
        plan, digest, name: of the bundle.
        memory: that it takes, of the plan; the machine's own figure is the server's.
        weights: bytes of each distinct weight, by content.
        routes, firsts: of its variants, and of the first step of an episode.
        engines: while it is loaded, of single robots; None otherwise.
        batches: of its parts, by name, while it is loaded.
        sessions: how many robots it serves now.
        used_s: when the last one came or left, on the monotonic clock.
        retired_s: when it was told to take no more robots, on the monotonic clock; None if not.
    """

    def __init__(self, offer: Offer, in_turn: InTurn = at_once) -> None:
        require_libraries(offer.plan)
        self.plan, self.digest = offer.plan, offer.digest
        self.name = offer.name or offer.plan.program
        self.memory: Memory = replace(offer.plan.memory, device=0)
        self.weights = dict(offer.weights) or {offer.digest.hex(): self.memory.weights}
        self.routes = routes_of(offer.plan, Side.CLOUD)
        self.firsts = first_routes_of(offer.plan, Side.CLOUD)
        self.engines: Mapping[str, Engine] | None = None
        self.batches: Mapping[str, Batches] = {}
        self.sessions = 0
        self.used_s = time.monotonic()
        self.retired_s: float | None = None
        self._offer, self._in_turn = offer, in_turn
        self._ran_before: Counter[int] = Counter()  # by engines that were given up
        self._first = initial_state(offer.plan.states, offer.plan.spec, offer.initial)
        self._lock = threading.Lock()
        self._counts = Counts()
        self._loading = threading.Event()  # set while nothing is being loaded
        self._loading.set()
        self._error = ""  # of the last time that it was loaded
        self._untold = False  # whether it failed, and nobody who waited knows
        self._closed = False

    @property
    def counts(self) -> Counts:
        """A copy of what was done so far."""
        with self._lock:
            return deepcopy(self._counts)

    @property
    def batch_runs(self) -> Counter[int]:
        """Runs of the parts that have engines for several robots, by how many these are for."""
        with self._lock:
            return self._batch_runs()

    def _batch_runs(self) -> Counter[int]:
        return sum((one.runs for one in self.batches.values()), self._ran_before)

    @property
    def step_s(self) -> float:
        """Seconds that a step takes its engines, on average; 0 before the first. What robots gave
        up does not count: they could make it as long as they like.
        """
        with self._lock:
            return self._counts.engine_s / self._counts.steps if self._counts.steps else 0.0

    def remembering(self) -> RobotMemory | None:
        """A new memory of a robot's state; None where the plan has none."""
        return RobotMemory(self.plan, self._first) if self.plan.states else None

    @property
    def over(self) -> bool:
        """Whether it is retired, and nobody uses it or may still be on the way to it."""
        late = self.retired_s is not None and time.monotonic() - self.retired_s > _GRACE_S
        return late and not self.sessions and self._loading.is_set()

    @property
    def active(self) -> bool:
        """Whether its weights take memory: it is loaded, or is being loaded."""
        return self.engines is not None or not self._loading.is_set()

    @property
    def idle(self) -> bool:
        """Whether it could be unloaded now."""
        return self.engines is not None and not self.sessions

    def load(self) -> None:
        """Load the engines here and now. Raises what loading does, and then holds nothing."""
        try:
            loaded = self._offer.load()
            self.batches = batches_of(self.plan, loaded, self._in_turn)
            self.engines = {name: loaded[name] for name in loaded if name in self.plan.part}
        except BaseException:
            self._offer.unload()  # of weights that it shares, some may be here
            raise

    def begin_loading(self) -> None:
        """Load them in a thread of their own; see `wait`. Does nothing if that goes on already, or
        failed and nobody has waited for that yet: who asks again and again has to hear of it.
        """
        with self._lock:
            if self.active or self._closed or self._untold:
                return
            self._loading.clear()
        threading.Thread(target=self._load, name=f"vlacut-load-{self.name}", daemon=True).start()

    def _load(self) -> None:
        self._error = ""
        try:
            self.load()
            if self._closed:
                self.unload()
        except Exception as error:  # whatever a back end raises is this bundle's alone
            self._error, self._untold = told(error), True
        self._loading.set()

    def wait(self, seconds: float) -> bool:
        """Whether it is loaded by then, or could not be."""
        ended = self._loading.wait(seconds)
        if ended:
            self._untold = False
        return ended

    @property
    def why_not(self) -> str:
        """Why it is not loaded."""
        if not self._loading.is_set():
            return f"{self.name} is being loaded"
        if self._closed:
            return "the server is stopping"
        return f"{self.name} cannot be loaded: {self._error}"

    def unload(self) -> None:
        """Give the engines up; nobody may use them any more."""
        with self._lock:
            self._ran_before = self._batch_runs()
            self.engines, self.batches = None, {}
        self._offer.unload()

    def close(self, seconds: float) -> None:
        """Give them up for good. One that is being loaded is waited for so long; if that is not
        enough, the thread that loads it gives it up.
        """
        with self._lock:
            self._closed = True
        if self._loading.wait(seconds) and self.engines is not None:
            self.unload()

    def count(self, event: str) -> None:
        """Note an event."""
        with self._lock:
            self._counts.events[event] += 1

    def note_step(self, tally: Tally, done: bool, engine_s: float = 0.0) -> None:
        """Note a step, done or abandoned, and for how many seconds engines ran in it."""
        with self._lock:
            counts = self._counts
            for name, start_ns, end_ns in tally.ran:
                counts.part_s[name] += (end_ns - start_ns) * 1e-9
            counts.received += tally.received
            counts.sent += tally.sent
            counts.steps += done
            counts.engine_s += engine_s if done else 0.0
            counts.abandoned += not done
