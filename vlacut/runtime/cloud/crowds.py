"""Crowds: who connects, and with whom it shares what it may take."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Any

_MOST_CACHED = 4096  # addresses whose network is kept


@lru_cache(_MOST_CACHED)
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


class Crowds:
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
