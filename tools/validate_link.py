"""What an emulated link delivers against what it was asked for, over loopback.

    python tools/validate_link.py [--rates 1 8 80 400] [--rtts 5 20 50] [--trace FILE]

A rate is measured at the receiver of a stream of about a second: bytes after the first read over
the time from the first to the last. A round trip is the median of pings of one byte on an idle
link. A trace is replayed while a sender keeps the link full: its mean, and the correlation of bytes
by 100 ms with the trace's. The exit status is 1 if a rate is not within 5 %, or a round trip not
within 10 % or 1 ms. With --packets
"""

from __future__ import annotations

import argparse
import socket
import statistics
import sys
import threading
import time
from pathlib import Path

import numpy as np

from vlacut.cli.show.output import console, table
from vlacut.emulation import EmulatedLink, Shape, shape_of
from vlacut.hardware import Link
from vlacut.hardware.service import Service
from vlacut.hardware.trace import read_trace

_PINGS = 31
_BIN_S = 0.1
_MBIT = 1e6 / 8


def main() -> None:
    """Measure, print a row per link."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rates", nargs="+", type=float, default=[1, 8, 80, 400], help="Mbit/s")
    parser.add_argument("--rtts", nargs="+", type=float, default=[5, 20, 50], help="milliseconds")
    parser.add_argument("--trace", type=Path)
    parser.add_argument("--seconds", type=float, default=10.0, help="of the trace")
    asked = parser.parse_args()
    cases = [(rate, rtt) for rate in asked.rates for rtt in asked.rtts]
    rows, off = [], 0
    for rate, rtt in cases:
        up, down, trip = measure(rate * _MBIT, rtt / 1e3)
        wrong = max(abs(found / (rate * _MBIT) - 1) for found in (up, down)) > 0.05
        wrong |= abs(trip * 1e3 - rtt) > max(1.0, 0.1 * rtt)
        off += wrong
        rates = (f"{found / _MBIT:.4g} ({found / (rate * _MBIT) - 1:+.1%})" for found in (up, down))
        rows.append((f"{rate:g}", f"{rtt:g}", *rates, f"{trip * 1e3:.4g}", "off" if wrong else ""))
    columns = ("Mbit/s asked", "RTT ms asked", "up", "down", "RTT median", "")
    console().print(table("Delivered", columns, rows, left=0))
    if asked.trace:
        console().print(replay(asked.trace, asked.seconds))
    sys.exit(1 if off else 0)


def measure(rate: float, rtt: float) -> tuple[float, float, float]:
    """Rates up and down in bytes per second, and the median round trip."""
    nbytes = int(max(2e5, rate))
    with Peer() as peer, EmulatedLink(peer.address, shape_of(Link(rate, rate, rtt))) as link:
        sock = socket.create_connection(link.address)
        with sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            trips = [ping(sock) for _ in range(_PINGS)]
            sock.sendall(b"D" + nbytes.to_bytes(8, "big"))
            down = train_rate(sock, nbytes)
            sock.sendall(b"U" + nbytes.to_bytes(8, "big") + bytes(nbytes))
            up = float(exactly(sock, 32).decode())
    return up, down, statistics.median(trips)


def replay(path: Path, seconds: float) -> str:
    """A trace replayed to a full link: what arrived against what the trace says."""
    trace = read_trace(path)
    link = Link(1e6, 1e6, 0.01)
    shape: Shape = shape_of(link, trace)
    service = Service(shape.down.trace)
    with Peer() as peer, EmulatedLink(peer.address, shape, begun=False) as emulated:
        sock = socket.create_connection(emulated.address)
        with sock:
            ping(sock)
            nbytes = int(service.carried(seconds)) + (1 << 23)
            began = emulated.begin()
            sock.sendall(b"D" + nbytes.to_bytes(8, "big"))
            arrived = np.zeros(round(seconds / _BIN_S))
            while (now := time.monotonic() - began - 0.01) < seconds:
                count = len(sock.recv(1 << 16))
                now = time.monotonic() - began - 0.01
                arrived[min(max(0, int(now / _BIN_S)), len(arrived) - 1)] += count
    times = np.arange(len(arrived) + 1) * _BIN_S
    due = np.diff([service.carried(at) for at in times])
    alike = np.corrcoef(arrived, due)[0, 1]
    return (
        f"\n{path.name}, {seconds:g} s: mean {arrived.sum() / due.sum() - 1:+.1%} of the trace's "
        f"{due.sum() / seconds / _MBIT:.4g} Mbit/s; correlation of {_BIN_S:g} s bins {alike:.3f}"
    )


class Peer:
    """A server that pongs, sends and receives as it is told; one connection after the other."""

    def __init__(self, address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self._listener = socket.create_server(address)
        self.address: tuple[str, int] = self._listener.getsockname()
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _serve(self) -> None:
        try:
            while True:
                with self._listener.accept()[0] as sock:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    while order := sock.recv(1):
                        self._obey(order, sock)
        except OSError:
            pass  # the measurement is over

    def _obey(self, order: bytes, sock: socket.socket) -> None:
        if order == b"P":
            sock.sendall(b"P")
            return
        nbytes = int.from_bytes(exactly(sock, 8), "big")
        if order == b"D":
            sock.sendall(bytes(nbytes))
        else:
            sock.sendall(f"{train_rate(sock, nbytes):32.3f}".encode())


def ping(sock: socket.socket) -> float:
    """Seconds of a round trip of one byte."""
    start = time.perf_counter()
    sock.sendall(b"P")
    sock.recv(1)
    return time.perf_counter() - start


def train_rate(sock: socket.socket, nbytes: int) -> float:
    """Bytes per second of a stream, at its receiver."""
    first = len(sock.recv(1 << 16))
    start = time.perf_counter()
    left = nbytes - first
    while left:
        left -= len(sock.recv(min(left, 1 << 16)))
    return (nbytes - first) / (time.perf_counter() - start)


def exactly(sock: socket.socket, count: int) -> bytes:
    """So many bytes."""
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            raise ConnectionResetError("the other end hung up")
        data += more
    return data


if __name__ == "__main__":
    main()
