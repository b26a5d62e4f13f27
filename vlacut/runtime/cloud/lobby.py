"""The lobby: connections that have not greeted yet, bounded and fair by address.

A flood evicts only its own connections. An address with more than its share loses its oldest guest;
an address with less makes the oldest guest of the fullest address leave. A part of the room is for
addresses from which somebody was let in before. The fuller the lobby is, the sooner a silent guest
has to leave.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Any

_MOST_ADDRESSES = 4096  # that are remembered
_HALF_LIFE_S = 1.0  # of the work that an address has made
_MOST_WORK_S = 0.2  # that counts of it, before its connections are ended unheard


@lru_cache(_MOST_ADDRESSES)
def network_of(address: str) -> str:
    """What one machine can take addresses from at will: itself, or in IPv6 its network of 64 bits
    (RFC 4291, section 2.5.4).
    """
    if ":" not in address:
        return address
    found = ip_address(address.partition("%")[0])
    assert isinstance(found, IPv6Address)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return f"{IPv6Address(int(found) >> 64 << 64)}/64"


@dataclass(eq=False)
class Guest:
    """A connection in the lobby.

    Attributes:
        address: where it comes from, without the port.
        crowd: with whom it shares what it may take: see `network_of`; a known address is alone.
        known: whether somebody was let in from there before.
        entered: when it came, on the caller's clock.
        holds: the caller's own object for it.
        here: whether it is still in the lobby.
    """

    address: str
    crowd: str
    known: bool
    entered: float
    holds: Any
    here: bool = True


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
        self._of = {known: _Crowds() for known in self._room}
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
        self._work[crowd] = (self._worked(address, now) + seconds, now)
        self._work.move_to_end(crowd)
        while len(self._work) > _MOST_ADDRESSES:
            self._work.popitem(last=False)

    def turned_back(self, address: str, now: float) -> bool:
        """Whether an address has made so much work lately that it has to wait outside."""
        return address not in self._known and self._worked(address, now) > _MOST_WORK_S

    def in_turn(self, guests: Iterable[Guest], now: float) -> list[Guest]:
        """Guests in the order in which to serve them: known ones, then who made least work."""
        waiting = Counter[str]()
        keyed = []
        for guest in guests:
            waiting[guest.crowd] += 1  # of one address the second comes after all the first
            worked = self._worked(guest.address, now)
            keyed.append(((not guest.known, worked, waiting[guest.crowd]), guest))
        return [guest for _, guest in sorted(keyed, key=lambda pair: pair[0])]

    def _worked(self, address: str, now: float) -> float:
        amount, when = self._work.get(network_of(address), (0.0, now))
        return float(amount * 0.5 ** ((now - when) / _HALF_LIFE_S))


class _Crowds:
    """Guests by address, and addresses by how many guests they have. Every operation is O(1)."""

    def __init__(self) -> None:
        self._guests: dict[str, OrderedDict[Guest, None]] = {}
        self._sized: dict[int, OrderedDict[str, None]] = {}
        self._most = 0

    def __len__(self) -> int:
        """How many addresses there are."""
        return len(self._guests)

    def count(self, address: str) -> int:
        """Guests from there."""
        return len(self._guests.get(address, ()))

    def oldest(self, address: str) -> Guest:
        """The one from there that came first."""
        return next(iter(self._guests[address]))

    def largest(self) -> str:
        """The address with the most guests; of several, the one that has had as many longest."""
        while not self._sized.get(self._most):
            self._most -= 1
        return next(iter(self._sized[self._most]))

    def add(self, guest: Guest) -> None:
        """A guest came."""
        same = self._guests.setdefault(guest.crowd, OrderedDict())
        same[guest] = None
        self._resized(guest.crowd, len(same) - 1, len(same))

    def remove(self, guest: Guest) -> None:
        """A guest left."""
        same = self._guests[guest.crowd]
        del same[guest]
        self._resized(guest.crowd, len(same) + 1, len(same))
        if not same:
            del self._guests[guest.crowd]

    def _resized(self, address: str, before: int, now: int) -> None:
        if before:
            del self._sized[before][address]
            if not self._sized[before]:
                del self._sized[before]
        if now:
            self._sized.setdefault(now, OrderedDict())[address] = None
            self._most = max(self._most, now)
