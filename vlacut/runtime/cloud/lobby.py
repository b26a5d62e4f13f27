"""The lobby: who has connected and has not yet said who it is, bounded and fair by address.

Whoever floods one evicts its own: an address with more than its share loses its oldest, and only an
address with less makes another's oldest leave. A part of the room is for addresses from which
somebody was let in before. The fuller it is, the sooner who says nothing has to leave.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

_MOST_ADDRESSES = 4096  # that are remembered
_HALF_LIFE_S = 1.0  # of the work that an address has made
_MOST_WORK_S = 0.2  # that counts of it, before its connections are ended unheard


@dataclass(eq=False)
class Guest:
    """A connection in the lobby.

    Attributes:
        address: it comes from, without the port.
        known: whether somebody was let in from there before.
        entered: when, on the caller's clock.
        holds: what the caller keeps of it.
        here: whether it has not left.
    """

    address: str
    known: bool
    entered: float
    holds: Any
    here: bool = True


class Lobby:
    """Who waits. Used by one thread, but for `know`. Every operation is O(1) a guest.

    Args:
        most: guests at a time.
        reserved: of these, for known addresses alone.
        longest_s: that a guest may take in an empty lobby, and a known one always.
        shortest_s: that a guest may take in a full one.
    """

    def __init__(self, most: int, reserved: int, longest_s: float, shortest_s: float) -> None:
        self._room = {True: reserved, False: most - reserved}
        self._guests: dict[bool, OrderedDict[Guest, None]] = {
            known: OrderedDict() for known in self._room
        }
        self._of: dict[str, OrderedDict[Guest, None]] = {}
        self._known: OrderedDict[str, None] = OrderedDict()
        self._work: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._longest_s, self._shortest_s = longest_s, shortest_s

    def __len__(self) -> int:
        """How many there are."""
        return sum(map(len, self._guests.values()))

    def know(self, address: str) -> None:
        """Somebody from there was let in."""
        self._known[address] = None
        self._known.move_to_end(address)
        while len(self._known) > _MOST_ADDRESSES:
            self._known.popitem(last=False)

    def enter(self, address: str, now: float, holds: Any) -> tuple[Guest, Guest | None]:
        """A guest, and the one that has to leave for it, if one has."""
        known = address in self._known
        mine, same = self._guests[known], self._of.setdefault(address, OrderedDict())
        out = None
        if same and len(same) >= max(1, self._room[known] // len(self._of)):
            out = next(iter(same))
        elif len(mine) >= self._room[known]:
            out = next(iter(mine))
        if out is not None:
            self.leave(out)
        guest = Guest(address, known, now, holds)
        mine[guest] = self._of.setdefault(address, OrderedDict())[guest] = None
        return guest, out

    def leave(self, guest: Guest) -> None:
        """It is gone; does nothing if it was gone before."""
        guest.here = False
        self._guests[guest.known].pop(guest, None)
        same = self._of.get(guest.address, OrderedDict())
        same.pop(guest, None)
        if not same:
            self._of.pop(guest.address, None)

    def overdue(self, now: float) -> list[Guest]:
        """Those that have to leave because they took too long, oldest first."""
        found = []
        for known, guests in self._guests.items():
            limit = self.limit_s(known)
            for guest in guests:  # in the order in which they came
                if now - guest.entered < limit:
                    break
                found.append(guest)
        return found

    def limit_s(self, known: bool) -> float:
        """For how long a guest may take, as full as it is now."""
        if known:
            return self._longest_s
        full = len(self._guests[False]) / max(1, self._room[False])
        return self._longest_s + full * (self._shortest_s - self._longest_s)

    def note(self, address: str, seconds: float, now: float) -> None:
        """So much work was done for an address; it counts half a second later, then a quarter."""
        self._work[address] = (self._worked(address, now) + seconds, now)
        self._work.move_to_end(address)
        while len(self._work) > _MOST_ADDRESSES:
            self._work.popitem(last=False)

    def turned_back(self, address: str, now: float) -> bool:
        """Whether an address has made so much work of late that it has to wait outside."""
        return address not in self._known and self._worked(address, now) > _MOST_WORK_S

    def in_turn(self, guests: Iterable[Guest], now: float) -> list[Guest]:
        """Guests in the order in which to serve them: known ones, then who made least work."""
        waiting = Counter[str]()
        keyed = []
        for guest in guests:
            waiting[guest.address] += 1  # of one address the second comes after all the first
            worked = self._worked(guest.address, now)
            keyed.append(((not guest.known, worked, waiting[guest.address]), guest))
        return [guest for _, guest in sorted(keyed, key=lambda pair: pair[0])]

    def _worked(self, address: str, now: float) -> float:
        amount, when = self._work.get(address, (0.0, now))
        return float(amount * 0.5 ** ((now - when) / _HALF_LIFE_S))
