"""Ways to send one tensor and get a small action back, each with a server process of its own.

- socket: a bare TCP loop, `sendall` and `recv_into` a buffer that is there; the limit
- vlacut: a step of `EdgeSession`, plain on loopback; vlacut-checked: with checksums of tensors,
  as off loopback without TLS; vlacut-tls: in TLS 1.3 with certificates on both sides
- websocket: WebSocket and msgpack, as openpi has it
- zeromq: REQ/REP and msgpack with `np.save` inside, as GR00T has it
- grpc: a call that streams chunks of 2 MB up and a call for the action, as LeRobot has it, but the
  tensor raw where LeRobot pickles

Run by path it is a server: `python tools/wire_ways.py NAME` prints its port.
"""

from __future__ import annotations

import asyncio
import io
import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import msgpack
import numpy as np
import zmq
from echo import DIGEST, Sleeper, cloud, echo_plan
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websocket
from websockets.sync.client import connect as connect_websocket

from vlacut.backend import Engine
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.wire.security import edge_context
from vlacut.security.keys import make_keys

DOWN = 1_400  # 50 actions of 7 floats
CHUNK = 2 * 1024 * 1024
MOST = 4 * CHUNK
ACTION = np.zeros(DOWN, np.uint8)
Trip = Callable[[np.ndarray], None]


class Way(NamedTuple):
    """A round trip, and the process that answers."""

    trip: Trip
    pid: int


@contextmanager
def peer(name: str) -> Iterator[tuple[int, int]]:
    """A server of another way, in a process; its port and process id."""
    words = [sys.executable, __file__, name]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            yield int(json.loads(child.stdout.readline())), child.pid
        finally:
            child.kill()


def free_port() -> int:
    """A port, printed for the parent."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = int(taken.getsockname()[1])
    return port


def ready(port: int) -> None:
    """Tell the parent that the server listens."""
    print(port, flush=True)


@contextmanager
def socket_client(size: int) -> Iterator[Way]:
    with peer("socket") as (port, pid), socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reply = memoryview(bytearray(DOWN))

        def trip(data: np.ndarray) -> None:
            sock.sendall(len(data).to_bytes(8, "big"))
            sock.sendall(data.data)
            fill(sock, reply)

        yield Way(trip, pid)


def socket_server(port: int) -> None:
    with socket.create_server(("127.0.0.1", port)) as listener:
        ready(port)
        sock, _ = listener.accept()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    header, room = memoryview(bytearray(8)), memoryview(bytearray(MOST))
    while fill(sock, header) and fill(sock, room[: int.from_bytes(header, "big")]):
        sock.sendall(ACTION.data)


def fill(sock: socket.socket, view: memoryview) -> bool:
    """Receive so many bytes; False at the end of the connection."""
    got = 0
    while got < len(view):
        count = sock.recv_into(view[got:])
        if not count:
            return False
        got += count
    return True


@contextmanager
def vlacut_client(size: int, **options: Any) -> Iterator[Way]:
    with (
        cloud(size, DOWN, 0) as (host, port, pid),
        session(size, (host, port), **options) as policy,
    ):
        yield Way(lambda data: step(policy, data), pid)


@contextmanager
def vlacut_tls_client(size: int) -> Iterator[Way]:
    with tempfile.TemporaryDirectory() as folder:
        make_keys(Path(folder), ("robot",), 1)
        tls = edge_context(Path(folder) / "robot")
        with (
            cloud(size, DOWN, 0, f"{folder}/cloud") as (host, port, pid),
            session(size, (host, port), tls=tls) as policy,
        ):
            yield Way(lambda data: step(policy, data), pid)


def session(size: int, address: tuple[str, int], **options: Any) -> EdgeSession:
    engines: dict[str, Engine] = {"see": Through(), "act": Sleeper("act/action", DOWN, 0)}
    return EdgeSession(echo_plan(size, DOWN), DIGEST, engines, address, **options)


class Through:
    """An engine that passes the observation on."""

    def run(self, inputs: Any) -> dict[str, np.ndarray]:
        return {"see/seen": inputs["image"]}


def step(policy: EdgeSession, data: np.ndarray) -> None:
    policy.step({"image": data})


def pack(array: np.ndarray) -> dict[bytes, Any]:
    """As openpi's msgpack_numpy does."""
    data = array.tobytes()
    return {b"__ndarray__": True, b"data": data, b"dtype": array.dtype.str, b"shape": array.shape}


def unpack(found: dict[Any, Any]) -> Any:
    if b"__ndarray__" in found:
        return np.ndarray(found[b"shape"], np.dtype(found[b"dtype"]), found[b"data"])
    return found


def encode(array: np.ndarray) -> bytes:
    packed: bytes = msgpack.packb({"image": pack(array)})
    return packed


def decode(data: bytes) -> Any:
    return msgpack.unpackb(data, object_hook=unpack, strict_map_key=False)


@contextmanager
def websocket_client(size: int) -> Iterator[Way]:
    with (
        peer("websocket") as (port, pid),
        connect_websocket(f"ws://127.0.0.1:{port}", compression=None, max_size=None) as ws,
    ):

        def trip(data: np.ndarray) -> None:
            ws.send(encode(data))
            decode(ws.recv())  # type: ignore[arg-type]  # binary, as the server sends it

        yield Way(trip, pid)


def websocket_server(port: int) -> None:
    async def answer(ws: ServerConnection) -> None:
        async for message in ws:
            decode(message)  # type: ignore[arg-type]  # binary, as the client sends it
            await ws.send(encode(ACTION))

    async def serve() -> None:
        async with serve_websocket(
            answer, "127.0.0.1", port, compression=None, max_size=None
        ) as server:
            ready(port)
            await server.serve_forever()

    asyncio.run(serve())


def save(array: np.ndarray) -> bytes:
    """As GR00T's service does."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    packed: bytes = msgpack.packb({"image": file.getvalue()})
    return packed


def load(data: bytes) -> np.ndarray:
    array: np.ndarray = np.load(io.BytesIO(msgpack.unpackb(data)["image"]), allow_pickle=False)
    return array


@contextmanager
def zeromq_client(size: int) -> Iterator[Way]:
    with peer("zeromq") as (port, pid), zmq.Context() as context, context.socket(zmq.REQ) as sock:
        sock.connect(f"tcp://127.0.0.1:{port}")

        def trip(data: np.ndarray) -> None:
            sock.send(save(data))
            load(sock.recv())

        yield Way(trip, pid)


def zeromq_server(port: int) -> None:
    with zmq.Context() as context, context.socket(zmq.REP) as sock:
        sock.bind(f"tcp://127.0.0.1:{port}")
        ready(port)
        while True:
            load(sock.recv())
            sock.send(save(ACTION))


@contextmanager
def grpc_client(size: int) -> Iterator[Way]:
    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with (
        peer("grpc") as (port, pid),
        grpc.insecure_channel(f"127.0.0.1:{port}", unlimited) as channel,
    ):
        observe, act = channel.stream_unary("/a/Observe"), channel.unary_unary("/a/Act")

        def trip(data: np.ndarray) -> None:
            raw = data.tobytes()
            observe(iter([raw[at : at + CHUNK] for at in range(0, len(raw), CHUNK)]))
            np.frombuffer(act(b""), np.uint8)

        yield Way(trip, pid)


def grpc_server(port: int) -> None:
    def observe(chunks: Iterator[bytes], context: object) -> bytes:
        np.frombuffer(b"".join(chunks), np.uint8)
        return b""

    methods = {
        "Observe": grpc.stream_unary_rpc_method_handler(observe),
        "Act": grpc.unary_unary_rpc_method_handler(lambda request, context: ACTION.tobytes()),
    }
    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.server(ThreadPoolExecutor(4), options=unlimited)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("a", methods),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    ready(port)
    server.wait_for_termination()


CLIENTS: dict[str, Any] = {
    "socket": socket_client,
    "vlacut": vlacut_client,
    "vlacut-checked": partial(vlacut_client, checked=True),
    "vlacut-tls": vlacut_tls_client,
    "websocket": websocket_client,
    "zeromq": zeromq_client,
    "grpc": grpc_client,
}
SERVERS: dict[str, Callable[[int], None]] = {
    "socket": socket_server,
    "websocket": websocket_server,
    "zeromq": zeromq_server,
    "grpc": grpc_server,
}


if __name__ == "__main__":
    SERVERS[sys.argv[1]](free_port())
