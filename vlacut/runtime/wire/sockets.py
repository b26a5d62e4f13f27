"""Addresses: hosts and ports, as they are written, resolved and listened on."""

from __future__ import annotations

import os
import socket

from vlacut.errors import InputError

_MOST_PORT = 65535
_BACKLOG = 64


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`, an IPv6 host in brackets; InputError if it does not parse."""
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > _MOST_PORT:
        raise InputError(f"address {text!r} does not parse; write HOST:PORT, e.g. 10.0.0.5:7000")
    if ":" in host and not bracketed:
        raise InputError(f"address {text!r} does not parse; write an IPv6 host in brackets")
    return host[1:-1] if bracketed else host, int(port)


def written(host: str, port: int) -> str:
    """What `parse_address` reads."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def resolved(host: str, port: int) -> list[tuple[int, tuple[str, int]]]:
    """Family and address of each that a host has; OSError if it has none."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise socket.gaierror(socket.EAI_NONAME, "not the name of a host") from error
    return [(family, address) for family, _, _, _, address in found]  # type: ignore[misc]


def listener(host: str, port: int) -> socket.socket:
    """A socket that listens there, on `::` for IPv4 too; InputError if it cannot be had."""
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
