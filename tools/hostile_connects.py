"""Connections that mean harm, for `flood_server.py`: until a line comes on standard input.

They come from the loopback addresses FIRST to END, so many a second, and each is treated as one of

- idle: keep it open and say nothing, for as long as the server lets them
- hang up: close it at once
- garbage: send what is no TLS, and close
- hello: send the first message of TLS, for which the server has to work, and no more

Printed is how many a second were tried, and how many the kernel there answered.

    python tools/hostile_connects.py PORT FIRST END RATE
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

KINDS = ("idle", "hang up", "garbage", "hello")
SERVED = "127.0.0.1"
_IP_BIND_ADDRESS_NO_PORT = 24
_RESET = b"\1\0\0\0\0\0\0\0"  # SO_LINGER of no time: leaves no port behind
_KEPT, _PENDING = 400, 50  # connections that are kept open, and those that are still to be treated
_SYN_SENT = 2  # TCP_SYN_SENT of linux/tcp_states.h


def main() -> None:
    """Run, and print."""
    port, first, end = map(int, sys.argv[1:4])
    flood(
        port,
        [f"127.0.{1 + at // 250}.{2 + at % 250}" for at in range(first, end)],
        float(sys.argv[4]),
    )


def hello() -> bytes:
    """The first message of TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    there, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(there, out).do_handshake()
    return out.read()


def flood(port: int, addresses: Sequence[str], most: float) -> None:
    """Connect at a rate until standard input says so; print the rate, and that of answers."""
    asked = threading.Event()

    def listen() -> None:
        sys.stdin.readline()
        asked.set()

    threading.Thread(target=listen, daemon=True).start()
    said, kept, made = {"garbage": b"hello" * 20, "hello": hello()}, deque[socket.socket](), 0
    answered = 0
    pending: deque[tuple[socket.socket, str]] = deque()
    start = time.monotonic()
    while not asked.is_set():
        if made > most * (time.monotonic() - start):
            time.sleep(0.001)
            continue
        pending.append((connecting(addresses[made % len(addresses)], port), KINDS[made % 4]))
        made += 1
        if len(pending) > _PENDING:
            answered += settle(*pending.popleft(), said, kept)
        while len(kept) > _KEPT:
            kept.popleft().close()
    lasted = time.monotonic() - start
    print(json.dumps([made / lasted, answered / lasted]))


def connecting(address: str, port: int) -> socket.socket:
    """A connection from an address, not waited for."""
    sock = socket.socket()
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    sock.bind((address, 0))
    sock.connect_ex((SERVED, port))
    return sock


def settle(
    sock: socket.socket, kind: str, said: dict[str, bytes], kept: deque[socket.socket]
) -> bool:
    """Do to a connection what its kind does; whether it was answered."""
    answered = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != _SYN_SENT
    if kind in said:
        with suppress(OSError):
            sock.send(said[kind])
    if kind in ("idle", "hello"):
        kept.append(sock)
    else:
        sock.close()
    return answered


if __name__ == "__main__":
    main()
