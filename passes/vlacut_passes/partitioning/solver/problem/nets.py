"""Sets of variables and the flows between them, as arrays that keep their form when merged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vlacut.tensor.numerics import Floats, Ints


@dataclass(frozen=True)
class Sets:
    """Sets of variables, one after the other: set i is `members[start[i]:start[i + 1]]`."""

    start: Ints
    members: Ints

    def __len__(self) -> int:
        return len(self.start) - 1

    @property
    def owner(self) -> Ints:
        """The set that every member belongs to."""
        return np.repeat(np.arange(len(self)), np.diff(self.start))

    def highest(self, x: Ints) -> Ints:
        """Per set, the highest value of a member. Sets must not be empty."""
        return np.maximum.reduceat(x[self.members], self.start[:-1]) if len(self) else x[:0]

    def lowest(self, x: Ints) -> Ints:
        """Per set, the lowest value of a member. Sets must not be empty."""
        return np.minimum.reduceat(x[self.members], self.start[:-1]) if len(self) else x[:0]


@dataclass(frozen=True, kw_only=True)
class Nets:
    """Flows: `up` is paid if the producer is 0 and a consumer 1, `down` the other way round.

    In seconds; `up_j` and `down_j` in joules of the edge.
    """

    producer: Ints
    consumers: Sets
    up: Floats
    down: Floats
    up_j: Floats
    down_j: Floats

    def moved(self, x: Ints) -> tuple[float, float]:
        """Seconds and joules of the transfers of an assignment."""
        home = x[self.producer]
        up = (home == 0) & (self.consumers.highest(x) == 1)
        down = (home == 1) & (self.consumers.lowest(x) == 0)
        return float(self.up @ up + self.down @ down), float(self.up_j @ up + self.down_j @ down)


def summed(label: Ints, amount: Floats, size: int) -> Floats:
    """What the amounts of every label add up to."""
    return np.asarray(np.bincount(label, amount, size), dtype=np.float64)


def merged_nets(flows: Nets, label: Ints) -> Nets:
    """Flows that still can cross, those with the same ends added up."""
    producer = label[flows.producer]
    owner, member = pairs_of(flows.consumers, label)
    away = member != producer[owner]
    first, which, consumers = distinct(producer, owner[away], member[away])

    def added(cost: Floats) -> Floats:
        return summed(which[which >= 0], cost[which >= 0], len(first))

    return Nets(
        producer=producer[first],
        consumers=consumers,
        up=added(flows.up),
        down=added(flows.down),
        up_j=added(flows.up_j),
        down_j=added(flows.down_j),
    )


def pairs_of(sets: Sets, label: Ints) -> tuple[Ints, Ints]:
    """Every set and every label in it, once, sorted."""
    size = int(label.max(initial=0)) + 1
    pairs = np.unique(sets.owner * size + label[sets.members])
    return pairs // size, pairs % size


def distinct(key: Ints, owner: Ints, member: Ints) -> tuple[Ints, Ints, Sets]:
    """Sets that are not empty, those with equal keys and equal members once.

    Owners and members are sorted pairs, keys one a set. Returns the first set of each kind; the
    kind of every set, -1 if it is empty; and the kinds.
    """
    count, start = np.bincount(owner, minlength=len(key)), starts(owner, len(key))
    which = np.full(len(key), -1)
    firsts = [np.zeros(0, dtype=np.int64)]
    for size in np.unique(count[count > 0]).tolist():
        rows = np.flatnonzero(count == size)
        ends = np.column_stack([key[rows], member[start[rows][:, None] + np.arange(size)]])
        order = np.lexsort(ends.T)
        new = np.concatenate([[True], (np.diff(ends[order], axis=0) != 0).any(axis=1)])
        which[rows[order]] = sum(map(len, firsts)) + np.cumsum(new) - 1
        firsts.append(rows[order][new])
    first = np.concatenate(firsts)
    sizes = count[first]
    place = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    members = member[np.repeat(start[first], sizes) + place]
    return first, which, Sets(np.concatenate([[0], np.cumsum(sizes)]), members)


def starts(owner: Ints, count: int) -> Ints:
    """Where the members of every set start, and where they end, the owners being sorted."""
    return np.searchsorted(owner, np.arange(count + 1)).astype(np.int64)
