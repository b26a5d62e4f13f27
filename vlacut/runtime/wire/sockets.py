"""Sockets: addresses as they are written, resolved and listened on, and the options of TCP."""

from __future__ import annotations

import os
import re
import socket
import struct
from contextlib import suppress

from vlacut.errors import InputError

_MOST_PORT = 65535
_HOST = re.compile(r"[\w.:%-]+")  # what a name, IPv4 and IPv6 with a zone are written with
_BACKLOG = 4096  # the kernel takes what it allows (net.core.somaxconn)
_LONGEST_IDLE_S = 32767  # MAX_TCP_KEEPIDLE of linux/tcp.h


def parse_address(text: str) -> tuple[str, int]:
    """Host and port number of `HOST:PORT`, an IPv6 host in brackets.

    Raises InputError if it does not parse.
    """
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > _MOST_PORT:
        raise InputError(f"address {text!r} does not parse; write HOST:PORT, e.g. 10.0.0.5:7000")
    if ":" in host and not bracketed:
        raise InputError(f"address {text!r} does not parse; write an IPv6 host in brackets")
    host = host[1:-1] if bracketed else host
    if not _HOST.fullmatch(host):  # it goes into logs, and into other programs' files
        raise InputError(f"address {text!r} does not parse; write HOST:PORT, e.g. 10.0.0.5:7000")
    return host, int(port)


def parse_addresses(text: str) -> list[tuple[str, int]]:
    """Hosts and port numbers of `HOST:PORT`, or several of them with commas between.

    Raises InputError if one does not parse, or is there twice.
    """
    found = [parse_address(one.strip()) for one in text.split(",")]
    if len(set(found)) < len(found):
        raise InputError(f"of the addresses {text!r} one is there twice; name each once")
    return found


def written(host: str, port: int) -> str:
    """A host and a port number as the text that `parse_address` reads."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def resolved(host: str, port: int) -> list[tuple[int, tuple[str, int]]]:
    """Family and address, with this port number, of each that a host has.

    Raises OSError if it has none.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise socket.gaierror(socket.EAI_NONAME, "not the name of a host") from error
    return [(family, address) for family, _, _, _, address in found]  # type: ignore[misc]


def listener(host: str, port: int) -> socket.socket:
    """A socket that listens at a host and a port number, on `::` for IPv4 too; port 0 is any.

    Raises InputError if it cannot be had: the OSError of the system, or a port that is none.
    """
    try:
        if not 0 <= port <= _MOST_PORT:
            raise OSError(None, f"a port is at most {_MOST_PORT}")
        family, address = resolved(host, port)[0]
        both = host == "::" and socket.has_dualstack_ipv6()
        return socket.create_server(address, family=family, backlog=_BACKLOG, dualstack_ipv6=both)
    except OSError as error:
        number = error.errno or 0  # below 0: of resolving
        why = os.strerror(number) if number > 0 else error.strerror
        raise InputError(
            f"cannot listen on {written(host, port)}: {why}; choose another address"
        ) from error


def set_options(sock: socket.socket, timeout: float) -> None:
    """No delay for small frames, and an error on a peer that vanished without a word.

    Three probes a second apart begin after `timeout` seconds of silence (Linux, which takes 32767
    at most).
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        sock.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, min(max(1, round(timeout)), _LONGEST_IDLE_S)
        )
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)


def reset(sock: socket.socket) -> None:
    """End a connection at once: nothing is sent but that it ended, and nothing of it stays."""
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def connected(address: tuple[str, int], limit: float) -> socket.socket:
    """As `socket.create_connection`, with the congestion control chosen before.

    Args:
        address: host and port number.
        limit: seconds that connecting to each of its addresses may take.

    Raises OSError if none of them can be connected to.
    """
    failed = OSError("no address")
    for family, found in resolved(*address):
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            use_cubic(sock)
            sock.settimeout(limit)
            sock.connect(found)
            return sock
        except OSError as error:
            failed = error
            sock.close()
    raise failed


def use_cubic(sock: socket.socket) -> None:
    """Cubic, where the kernel has it; before connecting, or for a listener's connections.

    Where bbr is the default it paces short bursts below the link's rate, and a receiver takes the
    pace for the link's: a fifth, for 25 kB at 80 Mbit/s and 50 ms. A connection that began with bbr
    is paced ever after.
    """
    if hasattr(socket, "TCP_CONGESTION"):
        with suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
