"""The lobby: connections that have not greeted yet, bounded and fair by address.

A flood evicts only its own connections. An address with more than its share loses its oldest guest;
an address with less makes the oldest guest of the fullest address leave. A part of the room is for
addresses from which somebody was let in before. The fuller the lobby is, the sooner a silent guest
has to leave.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable
from typing import Any

from vlacut.runtime.cloud.crowds import Crowds, Guest, network_of

_MOST_ADDRESSES = 4096  # that are remembered
_HALF_LIFE_S = 1.0  # of the work that an address has made
_MOST_WORK_S = 0.2  # that counts of it, before its connections are ended unheard
_BARRED_S = 5.0  # for so long
_STILL_COUNTS = 0.9  # of the most, after that: who goes on as before is barred at once


class Lobby:
    """The guests that wait. One thread uses it; `know` may be called from any. Operations are O(1)
    per guest.

    Args:
        most: how many guests there may be at a time.
        reserved: how many of these places are only for known addresses.
        longest_s: seconds that a guest may take in an empty lobby, and a known guest always.
        shortest_s: seconds that a guest may take in a full lobby.
    """

    def __init__(self, most: int, reserved: int, longest_s: float, shortest_s: float) -> None:
        self._room = {True: reserved, False: most - reserved}
        self._guests: dict[bool, OrderedDict[Guest, None]] = {
            known: OrderedDict() for known in self._room
        }
        self._of = {known: Crowds() for known in self._room}
        self._known: OrderedDict[str, str] = OrderedDict()
        self._work: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._barred: dict[str, float] = {}  # until when; who is heard again first, first
        self._longest_s, self._shortest_s = longest_s, shortest_s

    def __len__(self) -> int:
        """How many there are."""
        return sum(map(len, self._guests.values()))

    def know(self, address: str) -> None:
        """Somebody from there was let in."""
        self._known[address] = network_of(address)
        self._known.move_to_end(address)
        while len(self._known) > _MOST_ADDRESSES:
            self._known.popitem(last=False)

    def known(self) -> list[str]:
        """Addresses from which somebody was let in, the latest last."""
        return list(self._known)

    def enter(self, address: str, now: float, holds: Any) -> tuple[Guest, Guest | None]:
        """A guest, and the one that has to leave for it, if one has."""
        known = address in self._known
        mine, of = self._guests[known], self._of[known]
        crowd = address if known else network_of(address)
        out = None
        if of.count(crowd) >= max(1, self._room[known] // max(1, len(of))):
            out = of.oldest(crowd)
        elif mine and len(mine) >= self._room[known]:
            out = of.oldest(of.largest())
        if out is not None:
            self.leave(out)
        guest = Guest(address, crowd, known, now, holds)
        mine[guest] = None
        of.add(guest)
        return guest, out

    def leave(self, guest: Guest) -> None:
        """Remove a guest; does nothing if it has left already."""
        if guest.here:
            guest.here = False
            del self._guests[guest.known][guest]
            self._of[guest.known].remove(guest)

    def overdue(self, now: float) -> list[Guest]:
        """The guests that took too long and have to leave, oldest first."""
        found = []
        for known, guests in self._guests.items():
            limit = self.limit_s(known)
            for guest in guests:  # in the order in which they came
                if now - guest.entered < limit:
                    break
                found.append(guest)
        return found

    def limit_s(self, known: bool) -> float:
        """Seconds that a guest may take, with the lobby as full as it is now."""
        if known:
            return self._longest_s
        full = len(self._guests[False]) / max(1, self._room[False])
        return self._longest_s + full * (self._shortest_s - self._longest_s)

    def note(self, address: str, seconds: float, now: float) -> None:
        """Note work for an address; after a second it counts half, after another a quarter."""
        crowd = network_of(address)
        self._work[crowd] = (self._worked(crowd, now) + seconds, now)
        self._work.move_to_end(crowd)
        while len(self._work) > _MOST_ADDRESSES:
            self._work.popitem(last=False)

    def turned_back(self, address: str, now: float) -> bool:
        """Whether an address has made so much work lately that it has to wait outside for 5 s."""
        if address in self._known:
            return False
        self._hear_again(now)
        crowd = network_of(address)
        if crowd not in self._barred and self._worked(crowd, now) > _MOST_WORK_S:
            self._barred[crowd] = now + _BARRED_S
        return crowd in self._barred

    def barred(self, now: float) -> list[str]:
        """Crowds that are turned back; not those in which somebody is known, who is let in."""
        self._hear_again(now)
        known = set(self._known.values()) if self._barred else set()
        return [crowd for crowd in self._barred if crowd not in known]

    def _hear_again(self, now: float) -> None:
        """Let those in whose time outside is over."""
        while self._barred:
            crowd, until = next(iter(self._barred.items()))
            if until > now:
                return
            del self._barred[crowd]
            self._work[crowd] = (_STILL_COUNTS * _MOST_WORK_S, now)

    def in_turn(self, guests: Iterable[Guest], now: float) -> list[Guest]:
        """Guests in the order in which to serve them: known ones, then who made least work."""
        waiting = Counter[str]()
        keyed = []
        for guest in guests:
            waiting[guest.crowd] += 1  # of one address the second comes after all the first
            worked = self._worked(network_of(guest.address), now)
            keyed.append(((not guest.known, worked, waiting[guest.crowd]), guest))
        return [guest for _, guest in sorted(keyed, key=lambda pair: pair[0])]

    def _worked(self, crowd: str, now: float) -> float:
        amount, when = self._work.get(crowd, (0.0, now))
        return float(amount * 0.5 ** ((now - when) / _HALF_LIFE_S))
