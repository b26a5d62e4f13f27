"""What the cloud says it remembers of a robot, behind its greeting: see `protocol`."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from vlacut.plans.plan import Plan

_VERSION = struct.Struct("!Q")
_ENTRIES = 2  # the base of the last step, and what that left


def memory_bytes(plan: Plan) -> int:
    """How many bytes it has; 0 where the plan has no state."""
    mask = (len(plan.states) + 7) // 8
    return _ENTRIES * (_VERSION.size + mask) if mask else 0


def pack_memory(plan: Plan, held: Mapping[int, frozenset[str]]) -> bytes:
    """The bytes that say which keys of state are held, by version; of two versions at most."""
    if not plan.states:
        return b""
    entries = [*sorted(held.items())[-_ENTRIES:], *((0, frozenset[str]()),) * _ENTRIES]
    return b"".join(_packed(plan, *entry) for entry in entries[:_ENTRIES])


def _packed(plan: Plan, version: int, keys: frozenset[str]) -> bytes:
    mask = sum(1 << index for index, state in enumerate(plan.states) if state.key in keys)
    return _VERSION.pack(version) + mask.to_bytes((len(plan.states) + 7) // 8, "little")


def unpack_memory(plan: Plan, data: bytes) -> dict[int, frozenset[str]]:
    """Keys of state by version, of the `memory_bytes` that `pack_memory` made."""
    size = len(data) // _ENTRIES
    held = {}
    for at in range(0, len(data), size or 1):
        (version,) = _VERSION.unpack_from(data, at)
        mask = int.from_bytes(data[at + _VERSION.size : at + size], "little")
        keys = (state.key for index, state in enumerate(plan.states) if mask >> index & 1)
        if version:
            held[version] = frozenset(keys)
    return held
