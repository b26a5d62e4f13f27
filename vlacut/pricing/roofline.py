"""Cost: what work needs, apart from any machine; and its time on a Device.

    kernels = [Kernel("gemm", Cost(...), "bfloat16", m=280, n=4096, k=4096), ...]
    total = sequence_seconds(kernels, device, working_set)
    bounds = interval(total, device)

The formulas, for one kernel:

    device time = min(speedup x work, work + wake_s) + launch_s + batch x batch_s
    work        = max(compute, memory) + (1 - overlap) x min(compute, memory)
    compute     = flops / (peak(rate) x compute_part(kind) x occupancy(m, n, k, batch))
    memory      = (bytes from the cache / cache_bandwidth + the others / memory_bandwidth)
                  / memory_part(kind) + half_bytes / (memory_bandwidth x memory_part(kind))

Rates and bandwidths are those of all threads of an engine. If one thread ends a kernel before the
others have woken up, it does all of it, at 1 / speedup of the rate. If a stack was measured by
operator, its parts are those of the operator.

This is a roofline (RoboECC, equation 2). Its efficiency comes from waves of tiles on the
multiprocessors, and saturates in the size of tiles, the depth of the sum and the bytes of a
transfer. More FLOP/s, more bandwidth or fewer bytes never cost more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from vlacut.errors import HardwareError
from vlacut.hardware import KINDS, Device, Stack
from vlacut.tensor import dtype_bits


@dataclass(frozen=True)
class Cost:
    """Work of an operator (or of several: costs add), per execution.

    Attributes:
        flops: floating-point operations, a multiply-add counting as two.
        bytes_read: bytes of activations read.
        bytes_written: bytes of activations written.
        weight_bytes: bytes of weights read.
        kernels: kernels launched.
    """

    flops: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    weight_bytes: int = 0
    kernels: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.flops + other.flops,
            self.bytes_read + other.bytes_read,
            self.bytes_written + other.bytes_written,
            self.weight_bytes + other.weight_bytes,
            self.kernels + other.kernels,
        )

    @property
    def bytes_moved(self) -> int:
        """All bytes between the processor and its memory."""
        return self.bytes_read + self.bytes_written + self.weight_bytes


@dataclass(frozen=True)
class Kernel:
    """Work that is launched as one piece, and what its speed depends on.

    It is launched `cost.kernels` times, each alike.

    Attributes:
        kind: one of `vlacut.hardware.KINDS`.
        cost: of all its launches together.
        rate: element type at whose peak rate it runs.
        m, n, k, batch: sizes of a product [m, k] x [k, n], done `batch` times: a gemm, a
            convolution after unfolding, or attention (m queries, n columns of Q, K and V, k keys).
            1 for other kinds.
        operator: the ONNX operator; empty if several operators are one kernel.
        form: of a product that reads its weights as codes: bits of weights and activations, as
            `w8a8`, `w4a8` and `w4a16`; empty for others.

    Raises HardwareError for another kind.
    """

    kind: str
    cost: Cost
    rate: str = "float32"
    m: int = 1
    n: int = 1
    k: int = 1
    batch: int = 1
    operator: str = ""
    form: str = ""

    @property
    def own(self) -> str:
        """The name, after its kind, under which a stack has figures of its own for it."""
        return self.form or self.operator

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise HardwareError(f"kernel of kind {self.kind!r}, must be one of {', '.join(KINDS)}")


_PRODUCTS = ("gemm", "conv", "attention")
_TILES = ((1, 256), (4, 256), (16, 64), (16, 256), (64, 64), (64, 128), (128, 128), (256, 128))
_LARGEST = _TILES[-1]
_SPLITS = (1, 2, 4, 8, 16)  # ways in which a sum is shared among multiprocessors


@lru_cache(maxsize=65536)
def _padded_flops(
    m: int, n: int, k: int, batch: int, multiprocessors: int, half_tile: float, half_depth: float
) -> float:
    """What full use of all multiprocessors would do in the time of the best tiling.

    A wave of tiles takes its time however few multiprocessors have a tile; tiles are padded; small
    tiles and short sums run at x / (x + half) of the rate, relative to the largest tile.
    """
    best = math.inf
    large = (1 + half_tile / _LARGEST[0]) * (1 + half_tile / _LARGEST[1])
    for rows, columns in _TILES:
        small = (1 + half_tile / rows) * (1 + half_tile / columns) / large
        tiles = -(-m // rows) * -(-n // columns) * batch
        for split in _SPLITS:
            depth = -(-k // split) + half_depth
            waves = -(-tiles * split // multiprocessors)
            best = min(best, waves * small * rows * columns * depth)
    return 2.0 * best * multiprocessors


def compute_seconds(kernel: Kernel, device: Device) -> float:
    """Seconds of a kernel's arithmetic, once its operands are there."""
    stack = device.stack
    rate = device.peak.get(kernel.form) or device.peak_flops(kernel.rate)
    if not kernel.cost.flops:
        return 0.0
    flops: float = kernel.cost.flops
    if kernel.kind in _PRODUCTS:
        flops *= _deep_share(kernel, stack) if stack.packs else _tiled_share(kernel, device)
    return flops / (rate * stack.compute_part(kernel.kind, kernel.rate, kernel.own))


def _tiled_share(kernel: Kernel, device: Device) -> float:
    """What a product takes in tiles, over what it takes at full use of all multiprocessors."""
    stack, sizes = device.stack, (kernel.m, kernel.n, kernel.k, kernel.batch)
    half_tile = stack.half_tile * _appetite(kernel.rate, device)
    padded = _padded_flops(*sizes, device.multiprocessors, half_tile, stack.half_depth)
    return padded / (2.0 * math.prod(sizes))


def _appetite(dtype: str, device: Device) -> float:
    """Bytes per second that a tile of a type takes in at full rate, over those of bfloat16."""
    half = device.peak.get("bfloat16")
    if half is None:
        return 1.0
    return device.peak_flops(dtype) * dtype_bits(dtype) / (half * dtype_bits("bfloat16"))


def _deep_share(kernel: Kernel, stack: Stack) -> float:
    """What a product takes over what an infinitely deep one, of infinitely many rows, would of the
    same flops.
    """
    unpacks = stack.rows_of(kernel.kind, kernel.form, vector=kernel.m == 1) or 0.0
    return 1 + stack.depth_of(kernel.kind, kernel.own) / kernel.k + unpacks / kernel.m


def memory_seconds(kernel: Kernel, device: Device, working_set: float = math.inf) -> float:
    """Seconds to move a kernel's operands from and to memory, the start of the transfer included.

    Args:
        kernel: the kernel.
        device: where it runs.
        working_set: bytes touched between two executions of the kernel. The share of them that
            the cache holds says how much of the weights is read from the cache. Activations that
            fit in the cache are read from it and written to it.
    """
    cost, stack = kernel.cost, device.stack
    if not cost.bytes_moved:
        return 0.0
    activations = cost.bytes_read + cost.bytes_written
    kept = min(1.0, device.cache_bytes / working_set) if working_set else 1.0
    cached = min(activations, device.cache_bytes) + kept * cost.weight_bytes
    others = cost.bytes_moved - cached
    transfer = cached / device.cache_bandwidth + others / device.memory_bandwidth
    start = cost.kernels * stack.half_bytes / device.memory_bandwidth
    return (transfer + start) / _memory_part(kernel, stack)


def _memory_part(kernel: Kernel, stack: Stack) -> float:
    """Part of the bandwidth that a kernel gets.

    Where products pack their second operand, that alone goes at their own part; what else they
    move, and all that a product with a vector moves, goes at that of a vector. Products of codes,
    which were packed before, go at a part of their form's own, where that was measured, or at that
    of a vector, where what it takes to unpack them was.
    """
    if kernel.kind not in _PRODUCTS:
        return stack.memory_part(kernel.kind, kernel.own)
    vector = stack.memory_part(kernel.kind, "vector")
    if stack.rows_of(kernel.kind, kernel.form, vector=False) is not None:
        return stack.memory.get(f"{kernel.kind}.{kernel.form}", vector)
    if kernel.m == 1:
        return vector
    own = stack.memory_part(kernel.kind, kernel.operator)
    if not stack.packs:
        return own
    m, n, k = kernel.m, kernel.n, kernel.k
    packed = n * k / (m * k + n * k + m * n)
    return 1 / (packed / own + (1 - packed) / vector)


def device_seconds(kernel: Kernel, device: Device, working_set: float = math.inf) -> float:
    """Seconds of a device for a kernel, once the host has issued it: see this module's formulas."""
    compute = compute_seconds(kernel, device)
    memory = memory_seconds(kernel, device, working_set)
    stack = device.stack
    work = compute + memory - stack.overlap * min(compute, memory)
    alone = work * stack.times_faster(kernel.kind, kernel.own)
    return min(alone, work + stack.wake_s) + _launch_seconds(kernel, stack)


def _launch_seconds(kernel: Kernel, stack: Stack) -> float:
    """Seconds beyond a kernel's work; of a view too, where the stack was measured to take any."""
    own_s = stack.launch.get(f"{kernel.kind}.{kernel.own}")
    kernels = kernel.cost.kernels
    if own_s is None:
        return kernels * (stack.launch_s + kernel.batch * stack.batch_s)
    return max(1, kernels) * own_s


class Queue:
    """Kernels that a host issues to a device, in order, starting with an idle device.

    The first kernel waits for the call of the engine, call_s.
    The host issues a kernel every host_s and runs ahead of the device where it can; the device
    takes one after the other. So the times add up to that of the sequence: the device's where the
    host keeps up, the host's where it does not.

    Args:
        device: where the kernels run.
        working_set: bytes touched between two executions of a kernel, see `memory_seconds`.
    """

    def __init__(self, device: Device, working_set: float = math.inf) -> None:
        self.device, self.working_set = device, working_set
        self._call_s = device.stack.call_s
        self._ahead = 0.0  # seconds of work that the device has left when the host is free

    def seconds(self, kernel: Kernel) -> float:
        """Seconds by which the next kernel puts off the end of the sequence."""
        issue = kernel.cost.kernels * self.device.stack.host_s
        busy = device_seconds(kernel, self.device, self.working_set)
        idle = max(issue - self._ahead, 0.0)
        self._ahead = max(self._ahead - issue, 0.0) + busy
        call_s, self._call_s = self._call_s, 0.0
        return call_s + idle + busy


def sequence_seconds(
    kernels: Iterable[Kernel], device: Device, working_set: float = math.inf
) -> float:
    """Seconds of kernels in order, on a device that is idle at the start."""
    queue = Queue(device, working_set)
    return sum(queue.seconds(kernel) for kernel in kernels)


QUANTILE_95 = 1.645  # of the normal distribution: 5 % above, and 5 % below its negative


def interval(seconds: float, device: Device) -> tuple[float, float]:
    """Bounds in seconds between which 90 % of the measurements of a prediction should lie.

    The logarithm of measured over predicted is taken as normal, with the stack's `spread`.
    """
    factor = math.exp(QUANTILE_95 * device.stack.spread)
    return seconds / factor, seconds * factor
