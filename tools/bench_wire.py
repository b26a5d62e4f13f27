"""Round trips of one tensor up and a small action down, on loopback, interleaved in one run:

- socket: a bare TCP loop, `sendall` and `recv_into` a buffer that is there; the limit
- vlacut, vlacut-tls: a step of `EdgeSession`, plain and in TLS 1.3 with certificates on both sides
- websocket: WebSocket and msgpack, as openpi has it
- zeromq: REQ/REP and msgpack with `np.save` inside, as GR00T has it
- grpc: a call that streams chunks of 2 MB up and a call for the action, as LeRobot has it, but the
  tensor raw where LeRobot pickles

Each server is a process of its own. Needs `pip install 'vlacut[bench]'`.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import socket
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import msgpack
import numpy as np
import zmq
from echo import DIGEST, Sleeper, cloud, echo_plan
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websocket
from websockets.sync.client import connect as connect_websocket

from vlacut.keys import make_keys
from vlacut.runtime.security import edge_context
from vlacut.runtime.session import EdgeSession
from vlacut.runtime.wire import TENSORS, Header, checksum

SIZES = (8_192, 102_400, 301_056, 2_097_152)
DOWN = 1_400  # 50 actions of 7 floats
CHUNK = 2 * 1024 * 1024
ACTION = np.zeros(DOWN, np.uint8)
Trip = Callable[[np.ndarray], None]


def main() -> None:
    """Measure, and print medians and their ratios to the bare socket's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        SERVERS[chosen.serve](free_port())
        return
    print(f"{'bytes up':>10}" + "".join(f"{name:>22}" for name in NAMES))
    for size in SIZES:
        medians = measure(size, chosen.rounds)
        cells = (
            f"{value * 1e3:.3f} ms {value / medians['socket']:5.2f}x" for value in medians.values()
        )
        print(f"{size:>10}" + "".join(f"{cell:>22}" for cell in cells), flush=True)
    show_checksums(chosen.rounds)


def show_checksums(rounds: int) -> None:
    """Print what the checksum of the largest tensor costs, and a CRC of all its bytes."""
    data = np.random.default_rng(0).integers(0, 256, SIZES[-1], dtype=np.uint8)
    header = Header(TENSORS, 0, 0, 0, 0, data.nbytes)
    ways = (lambda: checksum(header, [data])), (lambda: zlib.crc32(data.data))
    times: list[list[float]] = [[], []]
    for _ in range(rounds):
        for way, found in zip(ways, times, strict=True):
            start = time.perf_counter()
            way()
            found.append(time.perf_counter() - start)
    ours, crc = (float(np.median(found)) for found in times)
    print(f"checksum of {SIZES[-1]} bytes: {ours * 1e3:.3f} ms, {ours / crc:.2f} x CRC-32's")


def measure(size: int, rounds: int) -> dict[str, float]:
    """Median seconds of a round trip, by way."""
    data = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    with ExitStack() as stack:
        trips = {name: stack.enter_context(CLIENTS[name](size)) for name in NAMES}
        times: dict[str, list[float]] = {name: [] for name in NAMES}
        for number in range(rounds + 20):
            for name, trip in trips.items():
                start = time.perf_counter()
                trip(data)
                if number >= 20:
                    times[name].append(time.perf_counter() - start)
    return {name: float(np.median(found)) for name, found in times.items()}


@contextmanager
def peer(name: str) -> Iterator[int]:
    """A server of another way, in a process; its port."""
    words = [sys.executable, __file__, "--serve", name]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            yield int(json.loads(child.stdout.readline()))
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
def socket_client(size: int) -> Iterator[Trip]:
    with peer("socket") as port, socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reply = memoryview(bytearray(DOWN))

        def trip(data: np.ndarray) -> None:
            sock.sendall(len(data).to_bytes(8, "big"))
            sock.sendall(data.data)
            fill(sock, reply)

        yield trip


def socket_server(port: int) -> None:
    with socket.create_server(("127.0.0.1", port)) as listener:
        ready(port)
        sock, _ = listener.accept()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    header, room = memoryview(bytearray(8)), memoryview(bytearray(max(SIZES)))
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
def vlacut_client(size: int) -> Iterator[Trip]:
    with cloud(size, DOWN, 0) as (host, port, _), session(size, (host, port)) as policy:
        yield lambda data: step(policy, data)


@contextmanager
def vlacut_tls_client(size: int) -> Iterator[Trip]:
    with tempfile.TemporaryDirectory() as folder:
        make_keys(Path(folder), ("robot",), 1)
        tls = edge_context(Path(folder) / "robot")
        with (
            cloud(size, DOWN, 0, f"{folder}/cloud") as (host, port, _),
            session(size, (host, port), tls=tls) as policy,
        ):
            yield lambda data: step(policy, data)


def session(size: int, address: tuple[str, int], **options: Any) -> EdgeSession:
    engines = {"see": Through(), "act": Sleeper("act/action", DOWN, 0)}
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
def websocket_client(size: int) -> Iterator[Trip]:
    with (
        peer("websocket") as port,
        connect_websocket(f"ws://127.0.0.1:{port}", compression=None, max_size=None) as ws,
    ):

        def trip(data: np.ndarray) -> None:
            ws.send(encode(data))
            decode(ws.recv())  # type: ignore[arg-type]  # binary, as the server sends it

        yield trip


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
def zeromq_client(size: int) -> Iterator[Trip]:
    with peer("zeromq") as port, zmq.Context() as context, context.socket(zmq.REQ) as sock:
        sock.connect(f"tcp://127.0.0.1:{port}")

        def trip(data: np.ndarray) -> None:
            sock.send(save(data))
            load(sock.recv())

        yield trip


def zeromq_server(port: int) -> None:
    with zmq.Context() as context, context.socket(zmq.REP) as sock:
        sock.bind(f"tcp://127.0.0.1:{port}")
        ready(port)
        while True:
            load(sock.recv())
            sock.send(save(ACTION))


@contextmanager
def grpc_client(size: int) -> Iterator[Trip]:
    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with peer("grpc") as port, grpc.insecure_channel(f"127.0.0.1:{port}", unlimited) as channel:
        observe, act = channel.stream_unary("/a/Observe"), channel.unary_unary("/a/Act")

        def trip(data: np.ndarray) -> None:
            raw = data.tobytes()
            observe(iter([raw[at : at + CHUNK] for at in range(0, len(raw), CHUNK)]))
            np.frombuffer(act(b""), np.uint8)

        yield trip


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
    "vlacut-tls": vlacut_tls_client,
    "websocket": websocket_client,
    "zeromq": zeromq_client,
    "grpc": grpc_client,
}
NAMES = tuple(CLIENTS)
SERVERS: dict[str, Callable[[int], None]] = {
    "socket": socket_server,
    "websocket": websocket_server,
    "zeromq": zeromq_server,
    "grpc": grpc_server,
}


if __name__ == "__main__":
    main()
