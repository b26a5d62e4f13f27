"""Fuzz the handshake and the frame parser, guided by coverage (atheris, on libFuzzer).

    python tools/fuzz_wire.py [--cpu-seconds 600] [CORPUS_FOLDER] [-libfuzzer=option ...]

An input becomes bytes on a socket: greetings, or frames of a plan with a loop, some of them right,
some with a right checksum and forged fields, some noise. Reading them may end in nothing but a
WireError, takes no frame that was not sent, and no memory that the plan does not give: libFuzzer
stops at the first input that breaks this and writes it down. Needs `pip install 'vlacut[fuzz]'`.
"""

from __future__ import annotations

import socket

import atheris
from fuzzing import fuzz

with atheris.instrument_imports(include=["vlacut.runtime"]):
    import numpy as np
    from echo import DIGEST, echo_plan

    from vlacut.errors import WireError
    from vlacut.hardware import Side
    from vlacut.runtime.wire.connection import Connection
    from vlacut.runtime.wire.handshake import answer, greet
    from vlacut.runtime.wire.layout import Layout
    from vlacut.runtime.wire.protocol.envelope import checksum
    from vlacut.runtime.wire.protocol.greeting import CHECKED, Greeting
    from vlacut.runtime.wire.protocol.header import ERROR, TENSORS, Header
    from vlacut.runtime.wire.route import Route

PLAN = echo_plan(96, 40, trips=3)
ROUTES = {side: Route(PLAN, side, 0) for side in Side}
TOKEN = bytes(range(16))
MOST_BYTES = 200_000  # beside the room for tensors: sockets, exceptions, Python's own
PIECES = 4


def one_input(data: bytes) -> None:
    """Read what an input says, and check what came of it."""
    source = atheris.FuzzedDataProvider(data)
    side = source.PickValueInList(list(Side))
    if source.ConsumeBool():
        read_greeting(side, source)
    else:
        read_frames(side, source)


def read_greeting(side: Side, source: atheris.FuzzedDataProvider) -> None:
    """A right start and noise, or a greeting of any fields."""
    if source.ConsumeBool():
        right = Greeting(0, DIGEST, TOKEN, 1, 2).pack()
        data = right[: source.ConsumeIntInRange(0, 80)] + source.ConsumeBytes(120)
    else:
        status, flags = (
            source.ConsumeIntInRange(0, 2**16 - 1),
            source.ConsumeIntInRange(0, 2**32 - 1),
        )
        first, second = (source.ConsumeIntInRange(0, 2**64 - 1) for _ in range(2))
        data = Greeting(status, DIGEST, TOKEN, first, second, flags).pack()
    mine, other = socket.socketpair()
    with mine, other:
        other.sendall(data)
        other.shutdown(socket.SHUT_WR)
        try:
            if side is Side.CLOUD:
                answer(mine, DIGEST, 5.0)
            else:
                greet(mine, DIGEST, TOKEN, 0, 5.0, CHECKED)
        except WireError:
            return
    assert data[:10] == Greeting(0, DIGEST, TOKEN, 0, 0).pack()[:10]
    assert data[16:48] == DIGEST


def read_frames(side: Side, source: atheris.FuzzedDataProvider) -> None:
    """Some pieces, received with a guess of what is due or without."""
    layout, right = Layout(PLAN, side), 0
    pieces = []
    for _ in range(source.ConsumeIntInRange(1, PIECES)):
        piece, whole = piece_of(layout, side, source)
        pieces.append(piece)
        right += whole
    data = b"".join(pieces)
    mine, other = socket.socketpair()
    connection = Connection(mine, layout, 5.0, checked=True)
    guess = source.ConsumeBool()
    found = 0
    with other:
        other.sendall(data)
        other.shutdown(socket.SHUT_WR)
        try:
            while True:
                due = ROUTES[side].due[found % len(ROUTES[side].due)] if guess else None
                frame = connection.receive(due=due)
                found += 1
                specs = ROUTES[side].transfers[0].tensors
                assert [each.nbytes for each in frame.tensors] == [
                    PLAN.spec[k].nbytes for k in specs
                ]
        except WireError:
            pass
        finally:
            connection.close()
    assert found <= right, f"{found} frames were taken, {right} were whole"


def piece_of(layout: Layout, side: Side, source: atheris.FuzzedDataProvider) -> tuple[bytes, bool]:
    """Bytes, and whether they are a frame whose checksum is right."""
    kind = source.ConsumeIntInRange(0, 3)
    if kind == 0:
        return source.ConsumeBytes(150), False
    step = source.ConsumeIntInRange(0, 3)
    if kind == 1:
        due = source.PickValueInList(list(ROUTES[side].due))
        room = layout.room(*due)[1]
        payload = np.full(room.nbytes, step, np.uint8)
        header = Header(TENSORS, due.variant, due.position, due.trip, step, room.nbytes)
    else:
        ids = [source.ConsumeIntInRange(0, 2**16 - 1) for _ in range(3)]
        payload = np.frombuffer(source.ConsumeBytes(200), np.uint8)
        length = payload.size if kind == 2 else source.ConsumeIntInRange(0, 2**64 - 1)
        kinds = source.PickValueInList([TENSORS, ERROR])
        header = Header(kinds, ids[0], ids[1], ids[2], step, length)
    # Over the payload as the receiver reads it: tensors apart, and small ones are CRC alone.
    return header.pack(checksum(header, [payload])) + payload.tobytes(), True


if __name__ == "__main__":
    fuzz(one_input, MOST_BYTES)
