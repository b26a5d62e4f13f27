"""A filter of the kernel on a listening socket: who may take a place in its queue.

Whoever connects waits in one queue of the kernel, first come first served, until it is accepted.
Who connects faster than that fills it, and then nobody gets a place. Linux runs a program of
classic BPF on what comes to a socket, for any process (SO_ATTACH_FILTER; Linux kernel,
Documentation/networking/filter.rst), so what is dropped costs this process nothing.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_network

MOST = 64  # addresses of each kind: the kernel bounds a filter's memory (net.core.optmem_max)

_ATTACH, _DETACH = 26, 27  # SO_ATTACH_FILTER, SO_DETACH_FILTER of asm-generic/socket.h
_IP = 0xFFF00000  # SKF_NET_OFF of linux/filter.h: from here on an offset is into the IP header
_RANDOM = 0xFFFFF000 + 56  # SKF_AD_OFF + SKF_AD_RANDOM, there
_SOURCE_4, _SOURCE_6 = _IP + 12, _IP + 8  # RFC 791, section 3.1; RFC 8200, section 3
_FLAGS, _SYN, _SYN_ACK = 13, 0x02, 0x12  # of the TCP header: RFC 9293, section 3.1
_LOAD, _LOAD_BYTE, _AND, _SHIFT_RIGHT = 0x20, 0x30, 0x54, 0x74
_JUMP, _IF_EQUAL, _IF_ANY, _RETURN = 0x05, 0x15, 0x45, 0x06
_WORD = 0xFFFFFFFF

Instruction = tuple[int, int, int, int]  # code, how many to skip if true, if false, operand

DROP: Instruction = (_RETURN, 0, 0, 0)
PASS: Instruction = (_RETURN, 0, 0, _WORD)


@dataclass(frozen=True)
class Rules:
    """Who may take a place.

    Attributes:
        barred: addresses and IPv6 networks of 64 bits of which all is dropped, 64 at most.
        known: addresses of which nothing else is dropped, 64 at most.
        halvings: of all others one in `2 ** halvings` who ask to connect is heard, by chance.
    """

    barred: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    halvings: int = 0


def set_rules(sock: socket.socket, rules: Rules) -> None:
    """Have these rules, in the place of those before, for what comes to a listening socket.

    Raises OSError if the kernel knows no such filters, or does not take this one.
    """
    if rules == Rules():
        sock.setsockopt(socket.SOL_SOCKET, _DETACH, 0)
        return
    instructions = _program(rules)
    code = b"".join(struct.pack("=HBBI", *each) for each in instructions)
    held = ctypes.create_string_buffer(code, len(code))  # until the call returns
    asked = struct.pack("HP", len(instructions), ctypes.addressof(held))
    sock.setsockopt(socket.SOL_SOCKET, _ATTACH, asked)


def queue_of(sock: socket.socket) -> float:
    """How much of a listening socket's queue is taken, from 0 to 1.

    Raises OSError if the system does not say (Linux: tcpi_unacked and tcpi_sacked of tcp_info).
    """
    waiting, most = struct.unpack_from("=II", sock.getsockopt(socket.IPPROTO_TCP, 11, 32), 24)
    return float(waiting / max(1, most))


def _program(rules: Rules) -> list[Instruction]:
    last = _sampled(rules.halvings)
    of_6 = _family(rules, last, 6)
    of_4 = _family(rules, last, 4)
    head = [(_LOAD_BYTE, 0, 0, _IP), (_SHIFT_RIGHT, 0, 0, 4), (_IF_EQUAL, 1, 0, 4)]
    return [*head, (_JUMP, 0, 0, len(of_4)), *of_4, *of_6]


def _family(rules: Rules, last: Sequence[Instruction], version: int) -> list[Instruction]:
    """For one version of IP; what is left when no address was that is up to `last`."""
    made: list[Instruction] = []
    for addresses, verdict in ((rules.barred, DROP), (rules.known, PASS)):
        for each in addresses:
            network = ip_network(each)
            if network.version == version:
                made += _if_from(network.network_address.packed, network.prefixlen, verdict)
    return [*made, *last]


def _if_from(address: bytes, bits: int, verdict: Instruction) -> list[Instruction]:
    """The verdict, if a segment comes from there; else on to what follows."""
    start = _SOURCE_4 if len(address) == 4 else _SOURCE_6
    made: list[Instruction] = []
    for at in range(0, bits // 8, 4):
        left = (bits // 8 - at) // 2  # instructions from here to the end
        word = int.from_bytes(address[at : at + 4], "big")
        made += [(_LOAD, 0, 0, start + at), (_IF_EQUAL, 0, left - 1, word)]
    return [*made, verdict]


def _sampled(halvings: int) -> list[Instruction]:
    """One in so many who ask to connect; who has been answered goes on."""
    if not halvings:
        return [PASS]
    return [
        *((_LOAD_BYTE, 0, 0, _FLAGS), (_AND, 0, 0, _SYN_ACK), (_IF_EQUAL, 1, 0, _SYN), PASS),
        *((_LOAD, 0, 0, _RANDOM), (_IF_ANY, 0, 1, 2**halvings - 1), DROP, PASS),
    ]
