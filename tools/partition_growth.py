"""How the search for a cut grows: synthetic VLAs of 1k, 10k and 100k operators, a row each.

The model is OpenVLA's shape: two vision towers side by side, an LLM's prefill, and six decode steps
over its KV cache with the same weights. More operators are more layers. Times are plain rooflines
of an Orin-like edge and an A100-like cloud in bfloat16.

    python tools/partition_growth.py [--tasks 1000 10000 100000] [--link 10MB/s,20ms] [--budget 0.9]
"""

from __future__ import annotations

import argparse
import math
import resource
import time
from dataclasses import dataclass, field
from itertools import pairwise

from vlacut.hardware import Device, Link, Side, load_device, parse_link
from vlacut.pricing.cost_graph import CostGraph, Dependency, Flow, Task, When
from vlacut.pricing.roofline import Cost, Kernel, device_seconds
from vlacut_passes.partitioning.limits import Limits
from vlacut_passes.partitioning.solver.search import optimal_cut

_BYTES = 2  # bfloat16
_PER_LAYER = 44
_VISION, _PREFILL, _DECODE = 0, 1, 2
_TRIPS = (1, 1, 6)


@dataclass
class Maker:
    """A cost graph under construction. A value is named by its task."""

    edge: Device
    cloud: Device
    tasks: list[Task] = field(
        default_factory=lambda: [Task("observation", -1, 0, 0, (), Side.EDGE)]
    )
    size: list[int] = field(default_factory=lambda: [224 * 224 * 3])
    uses: list[tuple[int, int, When]] = field(default_factory=list)
    weights: dict[str, tuple[int, int]] = field(default_factory=dict)
    phase: int = _VISION

    def op(self, size: int, *inputs: int, flops: int = 0, weight: str = "", held: int = 0) -> int:
        """An operator that makes `size` bytes from the values of other operators."""
        held_by: tuple[int, ...] = ()
        if weight:
            held_by = (self.weights.setdefault(weight, (len(self.weights), held))[0],)
        moved = sum(self.size[one] for one in inputs)
        cost = Cost(flops, bytes_read=moved, bytes_written=size, weight_bytes=held, kernels=1)
        kernel = Kernel("pointwise", cost, "bfloat16")
        times = [device_seconds(kernel, device) for device in (self.edge, self.cloud)]
        return self._add(size, times, held_by, inputs)

    def view(self, value: int, share: int = 1) -> int:
        """A reshape, transpose or slice: no time."""
        return self._add(self.size[value] // share, [0.0, 0.0], (), (value,))

    def _add(
        self, size: int, times: list[float], weights: tuple[int, ...], inputs: tuple[int, ...]
    ) -> int:
        self.tasks.append(Task(f"n{len(self.tasks)}", self.phase, times[0], times[1], weights))
        self.size.append(size)
        for one in inputs:
            within = self.tasks[one].phase == self.phase
            self.uses.append((len(self.tasks) - 1, one, When.WITHIN if within else When.INITIAL))
        return len(self.tasks) - 1

    def linear(self, value: int, name: str, rows: int, width: int, out: int) -> int:
        """A matrix product with a weight."""
        return self.op(
            rows * out * _BYTES,
            value,
            flops=2 * rows * width * out,
            weight=name,
            held=width * out * _BYTES,
        )

    def graph(self, result: int) -> CostGraph:
        """The finished graph; `result` is the action."""
        action = len(self.tasks)
        tasks = (*self.tasks, Task("action", len(_TRIPS), 0.0, 0.0, (), Side.EDGE))
        uses = sorted({*self.uses, (action, result, When.INITIAL)})
        readers: dict[int, list[tuple[int, When]]] = {}
        for consumer, producer, when in uses:
            readers.setdefault(producer, []).append((consumer, when))
        flows: list[Flow] = []
        for producer, read in sorted(readers.items()):
            last = sorted({one for one, when in read if when is not When.CARRIED})
            before = sorted({one for one, when in read if when is not When.INITIAL})
            again = self.tasks[producer].phase == _DECODE
            size, name = self.size[producer], f"v{producer}"
            if last:
                flows.append(Flow(name, producer, tuple(last), size, 1))
            if before and again:
                flows.append(Flow(name, producer, tuple(before), size, _TRIPS[_DECODE] - 1, True))
        weights = tuple(held for _, held in self.weights.values())
        dependencies = tuple(
            Dependency(producer, consumer, when) for consumer, producer, when in uses
        )
        return CostGraph(tasks, tuple(flows), dependencies, weights, _TRIPS)


def _norm(make: Maker, value: int, name: str, rows: int, width: int) -> int:
    square = make.op(rows * width * 4, value)
    mean = make.op(rows * 4, square)
    safe = make.op(rows * 4, mean)
    root = make.op(rows * 4, safe)
    scaled = make.op(rows * width * _BYTES, value, root)
    return make.op(rows * width * _BYTES, scaled, weight=name + ".norm", held=width * _BYTES)


def _rotate(make: Maker, value: int, tables: tuple[int, int]) -> int:
    low, high = make.view(value, 2), make.view(value, 2)
    turned = make.op(make.size[value], make.op(make.size[high], high), low)
    cosine = make.op(make.size[value], value, tables[0])
    return make.op(make.size[value], cosine, make.op(make.size[value], turned, tables[1]))


@dataclass(frozen=True)
class Shape:
    """Of a transformer layer; no tables: no rotary embedding, no cache, no gate."""

    rows: int
    width: int
    hidden: int
    context: int


def _layer(
    make: Maker,
    value: int,
    name: str,
    shape: Shape,
    tables: tuple[int, int] | None = None,
    cache: tuple[int, int] | None = None,
) -> tuple[int, tuple[int, int]]:
    """A pre-norm transformer layer: its result, and its keys and values."""
    rows, width = shape.rows, shape.width
    normed = _norm(make, value, name + ".0", rows, width)
    query, key, worth = (
        make.view(make.view(make.linear(normed, f"{name}.{which}", rows, width, width)))
        for which in "qkv"
    )
    if tables is not None:
        query, key = _rotate(make, query, tables), _rotate(make, key, tables)
    if cache is not None:
        size = shape.context * width * _BYTES
        key, worth = make.op(size, cache[0], key), make.op(size, cache[1], worth)
    heads = width // 128
    scores = heads * rows * shape.context * 4
    flops = 2 * rows * shape.context * width
    product = make.op(scores, query, make.view(key), flops=flops)
    soft = make.op(scores, make.op(scores, make.op(scores, product)))
    mixed = make.op(rows * width * _BYTES, soft, worth, flops=flops)
    gathered = make.view(make.view(mixed))
    attended = make.linear(gathered, name + ".o", rows, width, width)
    middle = make.op(rows * width * _BYTES, value, attended)
    normed = _norm(make, middle, name + ".1", rows, width)
    wide = make.linear(normed, name + ".up", rows, width, shape.hidden)
    if tables is not None:
        gate = make.linear(normed, name + ".gate", rows, width, shape.hidden)
        active = make.op(make.size[gate], gate, make.op(make.size[gate], gate))
        wide = make.op(make.size[wide], active, wide)
    else:
        wide = make.op(make.size[wide], make.op(make.size[wide], wide))
    down = make.linear(wide, name + ".down", rows, shape.hidden, width)
    return make.op(rows * width * _BYTES, middle, down), (key, worth)


def synthetic_vla(tasks: int) -> CostGraph:
    """A VLA of about so many operators."""
    layers = max(1, round(tasks / _PER_LAYER / 4))
    make = Maker(load_device("jetson-agx-orin"), load_device("a100"))
    towers = []
    for name, width in (("dino", 1024), ("siglip", 1152)):
        value = make.linear(make.op(256 * 588 * _BYTES, 0), name + ".patch", 256, 588, width)
        for layer in range(layers):
            value, _ = _layer(make, value, f"{name}.{layer}", Shape(256, width, 4 * width, 256))
        towers.append(value)
    seen = make.linear(make.op(256 * 2176 * _BYTES, *towers), "project", 256, 2176, 4096)
    make.phase = _PREFILL
    value = make.op(280 * 4096 * _BYTES, seen, make.op(24 * 4096 * _BYTES, 0, weight="embed",
                    held=32064 * 4096 * _BYTES))  # fmt: skip
    angle = make.op(280 * 128 * 4, 0)
    tables = make.op(280 * 128 * _BYTES, angle), make.op(280 * 128 * _BYTES, angle)
    caches = []
    for layer in range(layers):
        value, cache = _layer(make, value, f"llm.{layer}", Shape(280, 4096, 11008, 280), tables)
        caches.append(cache)
    return _decode(make, value, caches)


def _decode(make: Maker, value: int, caches: list[tuple[int, int]]) -> CostGraph:
    token = _head(make, value)
    make.phase = _DECODE
    first = len(make.tasks)
    value = make.op(4096 * _BYTES, token, weight="embed", held=32064 * 4096 * _BYTES)
    angle = make.op(128 * 4, token)
    tables = make.op(128 * _BYTES, angle), make.op(128 * _BYTES, angle)
    for layer, cache in enumerate(caches):
        value, kept = _layer(make, value, f"llm.{layer}", Shape(1, 4096, 11008, 287), tables, cache)
        for mine in kept:
            make.uses.append((mine, mine, When.CARRIED))
    result = _head(make, value)
    make.uses += [(first, result, When.CARRIED), (first + 1, result, When.CARRIED)]
    return make.graph(result)


def _head(make: Maker, value: int) -> int:
    last = _norm(make, make.view(value), "final", 1, 4096)
    return make.op(8, make.linear(last, "lm_head", 1, 4096, 32064))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--tasks", type=int, nargs="+", default=[1000, 10000, 100000])
    parser.add_argument("--link", default="10MB/s,20ms")
    parser.add_argument("--budget", type=float, default=None, help="share of the weights")
    options = parser.parse_args()
    link = parse_link(options.link)
    optimal_cut(synthetic_vla(1), link)  # the first search of a process imports what it needs
    rows = [_row(tasks, link, options.budget) for tasks in options.tasks]
    for one, other in pairwise(rows):
        slope = math.log(other[1] / one[1]) / math.log(other[0] / one[0])
        print(f"slope {one[0]} -> {other[0]} tasks: {slope:.2f}")


def _row(tasks: int, link: Link, share: float | None) -> tuple[int, float]:
    graph = synthetic_vla(tasks)
    budget = None if share is None else int(share * sum(graph.weights))
    start = time.perf_counter()
    found = optimal_cut(graph, link, Limits(cloud_bytes=budget))
    took = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    in_cloud = sum(side is Side.CLOUD for side in found.sides)
    print(
        f"{len(graph.tasks):7d} tasks {took:8.2f} s {peak:6.2f} GiB"
        f"  step {found.price.total_s:9.4f} s  gap {found.gap:.2%}"
        f"  hops {found.price.hops}  in the cloud {in_cloud}"
    )
    return len(graph.tasks), took


if __name__ == "__main__":
    main()
