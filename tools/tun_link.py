"""A link for packets: two network namespaces, a TUN device in each, and a timed queue between them.

    python tools/tun_link.py [--rates 8 80] [--rtts 5 20 50] [--burst 102000] [--loss 0]

Root on Linux, with `ip` and /dev/net/tun; no queueing discipline of the kernel is needed. Unlike
the proxies of `vlacut.emulation` it carries the packets of a real TCP from end to end, so that slow
start, and the answer to loss, are TCP's own. What it delivers is measured: the rate of a stream at
its receiver, the median of pings on an idle connection, and when a burst has arrived on a
connection that is new, and on one that is warm, beside what `vlacut.hardware.Link` says of both.
The namespaces are this process's own, and removed at its end. The exit status is 1 if a rate is not
within 5 %, or a round trip not within 10 % or 1 ms; 77 where the machine cannot do it.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import heapq
import os
import random
import select
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from validate_link import Peer, exactly, ping, train_rate

from vlacut.cli.show.output import console, milliseconds, table
from vlacut.emulation import DirectionShape, Shape, shape_of
from vlacut.emulation.direction import LinkDirection
from vlacut.emulation.shape import scaled
from vlacut.hardware import Framing, Link

CANNOT = 77
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000  # linux/if_tun.h
_CLONE_NEWNET = 0x40000000  # linux/sched.h
_MTU, _ETHERNET_BYTES = 1500, 14
_QUEUE_S = 0.2  # what the bottleneck holds: more is dropped
_PINGS = 21
_MBIT = 1e6 / 8
_ADDRESSES = ("10.77.0.1", "10.77.0.2")
_PORT = 7000


class TunLink:
    """While entered, two namespaces and a link between them; packets are lost, not held back."""

    def __init__(self, shape: Shape) -> None:
        self.names = tuple(f"vlacut{os.getpid()}{side}" for side in ("edge", "cloud"))
        self._ways = tuple(map(_of_packets, (shape.up, shape.down)))
        self._losses = shape.up.loss, shape.down.loss
        self._numbers = random.Random(shape.seed)
        self._devices: list[int] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._forward, daemon=True)

    def __enter__(self) -> TunLink:
        try:
            for name, own, peer in zip(self.names, _ADDRESSES, reversed(_ADDRESSES), strict=True):
                _ip("netns", "add", name)
                with entered(name):
                    self._devices.append(_open_tun("tun0"))
                    _ip("addr", "add", own, "peer", peer, "dev", "tun0")
                    _ip("link", "set", "tun0", "mtu", str(_MTU), "up")
        except BaseException:
            self._remove()
            raise
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._remove()

    def _remove(self) -> None:
        for device in self._devices:
            os.close(device)
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)

    def _forward(self) -> None:
        """Take packets in, and let them out when the link would."""
        now = time.monotonic()
        lanes = [LinkDirection(way, _MTU, index, now) for index, way in enumerate(self._ways)]
        due: list[tuple[float, int, int, bytes]] = []
        last, count = [now, now], 0
        while not self._stop.is_set():
            left = due[0][0] - time.monotonic() if due else 0.1
            ready, _, _ = select.select(self._devices, [], [], max(0.0, min(left, 0.1)))
            for device in ready:
                source = self._devices.index(device)
                packet, now = os.read(device, _MTU), time.monotonic()
                full = last[source] - self._ways[source].delay_s - now > _QUEUE_S
                if full or self._numbers.random() < self._losses[source]:
                    continue
                last[source] = lanes[source].take(len(packet) + _ETHERNET_BYTES, now)
                heapq.heappush(due, (last[source], count, 1 - source, packet))
                count += 1
            while due and due[0][0] <= time.monotonic():
                _, _, sink, packet = heapq.heappop(due)
                os.write(self._devices[sink], packet)


def _of_packets(way: DirectionShape) -> DirectionShape:
    """The way at the rate of the wire, since headers are there to be counted; loss is apart."""
    return DirectionShape(scaled(way.trace, 1 / Framing().share), way.delay_s, way.jitter_s)


def _open_tun(name: str) -> int:
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
    return device


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@contextmanager
def entered(name: str) -> Iterator[None]:
    """This thread in a network namespace: sockets made meanwhile stay there."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{name}") as away:
        if libc.setns(away.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter the namespace {name}")
        try:
            yield
        finally:
            libc.setns(home.fileno(), _CLONE_NEWNET)


def cannot() -> str:
    """Why this machine cannot; empty if it can."""
    if os.geteuid() != 0:
        return "it needs root"
    if not shutil.which("ip"):
        return "it needs ip(8)"
    if not Path("/dev/net/tun").exists():
        return "it needs /dev/net/tun"
    try:
        with TunLink(shape_of(Link(1e6, 1e6))):
            return ""
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no namespaces or devices of its own: {error}"


def main() -> None:
    """Measure, print a row per link."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rates", nargs="+", type=float, default=[8, 80], help="Mbit/s")
    parser.add_argument("--rtts", nargs="+", type=float, default=[5, 20, 50], help="milliseconds")
    parser.add_argument("--burst", type=int, default=102_000, help="bytes")
    parser.add_argument("--loss", type=float, default=0.0, help="share of the packets")
    asked = parser.parse_args()
    why = cannot()
    if why:
        console().print(f"this machine cannot: {why}")
        sys.exit(CANNOT)
    rows, off = [], 0
    for rate in asked.rates:
        for rtt in asked.rtts:
            share = Framing().share
            link = Link(rate * _MBIT * share, rate * _MBIT * share, rtt / 1e3)
            shape = shape_of(link, loss=asked.loss)
            with TunLink(shape) as tun:
                found, trip, new_s, warm_s = measure(tun, rate * _MBIT, asked.burst)
            wrong = abs(found / link.up - 1) > 0.05 or abs(trip * 1e3 - rtt) > max(1.0, 0.1 * rtt)
            off += wrong
            due_s = asked.burst / link.up + link.hop_s
            first_s = due_s + link.first_burst_s(asked.burst, link.up)
            times = [milliseconds(one) for one in (trip, warm_s, due_s, new_s, first_s)]
            wire = f"{found / share / _MBIT:.4g} ({found / link.up - 1:+.1%})"
            rows.append((f"{rate:g}", f"{rtt:g}", wire, *times, "off" if wrong else ""))
    columns = ("Mbit/s", "RTT ms", "Mbit/s found", "RTT found", "warm", "said", "new", "said", "")
    title = f"Packets through TUN devices; a burst of {asked.burst} bytes has arrived after ms"
    console().print(table(title, columns, rows, left=0))
    sys.exit(1 if off and not asked.loss else 0)


def measure(tun: TunLink, rate: float, burst: int) -> tuple[float, float, float, float]:
    """Rate of a stream's bytes, median round trip, arrival of a burst: new, and warm."""
    with ExitStack() as stack:
        with entered(tun.names[1]):
            peer = stack.enter_context(Peer((_ADDRESSES[1], _PORT)))
        with _connection(tun, peer) as sock:
            trip = statistics.median(ping(sock) for _ in range(_PINGS))
        with _connection(tun, peer) as sock:
            new_s = _arrival(sock, burst, trip)
            warm_s = statistics.median(_arrival(sock, burst, trip) for _ in range(15))
        with _connection(tun, peer) as sock:
            warming = int(rate * 0.5)
            nbytes = warming + int(rate)
            sock.sendall(b"D" + nbytes.to_bytes(8, "big"))
            exactly(sock, warming)
            return train_rate(sock, nbytes - warming), trip, new_s, warm_s


@contextmanager
def _connection(tun: TunLink, peer: Peer) -> Iterator[socket.socket]:
    with entered(tun.names[0]):
        sock = socket.create_connection(peer.address, 10)
    with sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield sock


def _arrival(sock: socket.socket, nbytes: int, trip: float) -> float:
    """Seconds from sending a burst to its arrival: the answer comes half a round trip later."""
    start = time.perf_counter()
    sock.sendall(b"U" + nbytes.to_bytes(8, "big") + bytes(nbytes))
    exactly(sock, 32)
    return time.perf_counter() - start - trip / 2


if __name__ == "__main__":
    main()
