"""The handshake: version, bundle, session and clocks, before the first tensor."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from vlacut.errors import PeerLoading, PeerLost, PeerRefused, PeerUnable, WireError
from vlacut.runtime.wire.clock import Exchange
from vlacut.runtime.wire.moving import pack_place, unpack_place
from vlacut.runtime.wire.protocol.greeting import (
    DIGEST_BYTES,
    GREETING_BYTES,
    GREETING_START_BYTES,
    PLACE_BYTES,
    VERSION,
    Greeting,
    Status,
    unpack_greeting,
    unpack_version,
)
from vlacut.runtime.wire.security import no_tls, says_no


@dataclass(frozen=True)
class NoRoom:
    """Why a robot of a bundle that is here is not let in now.

    Attributes:
        why: for people.
        status: that it is told.
        place: `HOST:PORT` of who serves it instead; empty if nobody does.
    """

    why: str
    status: Status = Status.FULL
    place: str = ""


def greet(
    sock: socket.socket,
    digest: bytes,
    token: bytes,
    deadline_ns: int,
    timeout: float,
    flags: int = 0,
    memory_bytes: int = 0,
) -> tuple[Exchange, bytes]:
    """The edge's half of the handshake; the four times of it, and what the cloud remembers.

    Args:
        sock: connected, in TLS or not.
        digest: of the bundle's manifest, 32 bytes.
        token: of the session, 16 bytes.
        deadline_ns: nanoseconds within which a step returns, 0 for no limit.
        timeout: seconds that all of it may take.
        flags: of the greeting, see `protocol`.
        memory_bytes: how long what the cloud remembers is, see `vlacut.runtime.wire.remembered`.

    Raises PeerLost if the other side hangs up or is late, WireError if it is no cloud of vlacut,
    PeerRefused with what differs, PeerUnable if it is full, PeerLoading if it will be able to,
    PeerMoved if another is.
    """
    sent = time.perf_counter_ns()
    _send(sock, Greeting(Status.OK, digest, token, sent, deadline_ns, flags))
    end = time.monotonic() + timeout
    version, found = _receive(sock, end)
    if found is None:
        raise PeerRefused(f"the cloud speaks protocol {version}, this edge {VERSION}; update one")
    if found.status == Status.MOVED:
        raise unpack_place(_read(sock, PLACE_BYTES, end))
    if found.status == Status.OTHER_BUNDLE or found.digest != digest:
        raise PeerRefused(
            f"the cloud holds another bundle ({found.digest.hex()[:12]}) than this edge "
            f"({digest.hex()[:12]}); deploy the same one on both sides"
        )
    if found.status == Status.FULL:
        raise PeerUnable("the cloud is full: it serves as many robots as it can, or is stopping")
    if found.status == Status.LOADING:
        raise PeerLoading("the cloud is loading this bundle: connect again")
    if found.status != Status.OK or (found.token, found.flags) != (token, flags):
        raise WireError(f"the cloud answered another greeting, with status {found.status}")
    times = Exchange(sent, found.first_ns, found.second_ns, time.perf_counter_ns())
    return times, _read(sock, memory_bytes, end)


def answer(
    sock: socket.socket,
    digest: bytes,
    timeout: float,
    full: Callable[[Greeting], NoRoom | None] = lambda _: None,
    memory: Callable[[Greeting], bytes] = lambda _: b"",
) -> Greeting:
    """The cloud's half of the handshake, waiting `timeout` seconds for the edge's greeting; returns
    it.

    The other arguments are those of `answer_to`. Raises as that does, PeerLost also if no greeting
    comes in time.
    """
    end = time.monotonic() + timeout
    data = _read(sock, GREETING_START_BYTES, end)
    if unpack_version(data) == VERSION:
        data += _read(sock, GREETING_BYTES - len(data), end)
    return answer_to(sock, data, time.perf_counter_ns(), (digest,), full, memory)


def answer_to(
    sock: socket.socket,
    data: bytes,
    arrived_ns: int,
    digests: Sequence[bytes],
    full: Callable[[Greeting], NoRoom | None] = lambda _: None,
    memory: Callable[[Greeting], bytes] = lambda _: b"",
) -> Greeting:
    """The cloud's answer to the bytes of a greeting; the edge's greeting.

    Args:
        sock: connected, in TLS or not.
        data: the greeting, or the first 12 bytes of one of another version.
        arrived_ns: this side's clock when these had come, in nanoseconds.
        digests: of the manifests of the bundles that the cloud holds, the one that it names to
            an edge of another first.
        full: says why there is no room for the robot, if there is none.
        memory: what is remembered of one that has room, packed.

    Raises PeerLost if the edge hung up, WireError if it is no edge of vlacut, and what this side
    answered with: PeerRefused for another version or bundle, PeerUnable if there is no room.
    """
    refused = refusal(data, arrived_ns, digests)
    if refused is not None:
        _send_bytes(sock, refused[0])
        raise PeerRefused(refused[1])
    found = unpack_greeting(data)
    times = arrived_ns, time.perf_counter_ns()
    mine = Greeting(Status.OK, found.digest, found.token, *times, found.flags)
    no = full(found)
    if no is not None:
        if no.place:
            _send(sock, replace(mine, status=Status.MOVED), pack_place(no.place))
            raise PeerUnable(f"{no.why}; sent to {no.place}")
        _send(sock, replace(mine, status=no.status))
        raise PeerUnable(f"there is no room for another robot: {no.why}")
    _send(sock, mine, memory(found))
    return found


def refusal(
    data: bytes,
    arrived_ns: int,
    digests: Sequence[bytes],
    elsewhere: Callable[[bytes], str] = lambda _: "",
) -> tuple[bytes, str] | None:
    """What to answer a greeting of another version or bundle, and why; None if it is of one here.

    Args:
        data: as for `answer_to`.
        arrived_ns: as for `answer_to`.
        digests: as for `answer_to`.
        elsewhere: `HOST:PORT` of who serves the bundle of a digest; empty if nobody does.

    Raises WireError if it is no greeting.
    """
    digest = digests[0] if digests else bytes(DIGEST_BYTES)
    version = unpack_version(data[:GREETING_START_BYTES])
    if version != VERSION:
        mine = Greeting(Status.OTHER_VERSION, digest, bytes(16), arrived_ns, arrived_ns)
        return mine.pack(), f"an edge speaks protocol {version}, this cloud {VERSION}"
    found = unpack_greeting(data)
    if found.digest in digests:
        return None
    now, place = time.perf_counter_ns(), elsewhere(found.digest)
    why = (
        f"an edge holds another bundle ({found.digest.hex()[:12]}) than this cloud "
        f"({', '.join(one.hex()[:12] for one in digests)})"
    )
    if place:
        mine = Greeting(Status.MOVED, found.digest, found.token, arrived_ns, now, found.flags)
        return mine.pack() + pack_place(place), f"{why}; sent to {place}"
    mine = Greeting(Status.OTHER_BUNDLE, digest, found.token, arrived_ns, now, found.flags)
    return mine.pack(), why


def _send(sock: socket.socket, greeting: Greeting, rest: bytes = b"") -> None:
    _send_bytes(sock, greeting.pack() + rest)


def _send_bytes(sock: socket.socket, data: bytes) -> None:
    try:
        sock.sendall(data)
    except OSError as error:
        raise _hung_up(error.strerror or str(error)) from error


def _receive(sock: socket.socket, end: float) -> tuple[int, Greeting | None]:
    """The version of the other side, and its greeting if that is this one, by `end`."""
    start = _read(sock, GREETING_START_BYTES, end)
    version = unpack_version(start)
    if version != VERSION:
        return version, None
    return version, unpack_greeting(start + _read(sock, GREETING_BYTES - len(start), end))


def _read(sock: socket.socket, count: int, end: float) -> bytes:
    data = b""
    while len(data) < count:
        left = end - time.monotonic()
        if left <= 0:
            raise PeerLost("the other side did not finish the handshake in time")
        sock.settimeout(left)
        try:
            chunk = sock.recv(count - len(data))
        except TimeoutError:
            continue
        except OSError as error:
            if says_no(error):  # in TLS 1.3 the edge hears here what the cloud thinks of its keys
                raise no_tls(error) from error
            raise _hung_up(error.strerror or str(error)) from error
        if not chunk:
            raise _hung_up("it closed the connection")
        data += chunk
    return data


def _hung_up(why: str) -> PeerLost:
    return PeerLost(
        f"the other side hung up in the handshake ({why}); if it uses --tls, so must this side, "
        f"with keys of the same vlacut keys"
    )
