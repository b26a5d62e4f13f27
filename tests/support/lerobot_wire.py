"""LeRobot's asynchronous wire as its `RobotClient` speaks it, and a policy that is played."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np

from vlacut.integrations.fields import Fields
from vlacut.integrations.lerobot.messages import END, actions_message, data_of
from vlacut.integrations.lerobot.server import LerobotServer
from vlacut.integrations.lerobot.stand_ins import MODULES
from vlacut.tensor import TensorSpec

pickle: Any = __import__("pickle")  # as the client has it; the house bans it elsewhere

FRONT, STATE = "observation.images.front", "observation.state"
FEATURES = {
    STATE: {"dtype": "float32", "shape": (2,), "names": ["a.pos", "b.pos"]},
    FRONT: {"dtype": "image", "shape": (8, 10, 3), "names": ["height", "width", "channels"]},
}


class Played:
    """A policy whose commands are the state, counted up."""

    horizon, width = 4, 2

    def __init__(self) -> None:
        specs = (TensorSpec(STATE, "float32", (2,)), TensorSpec(FRONT, "uint8", (8, 10, 3)))
        self.specs, self.fields = specs, Fields(specs)
        self.seen: Any = None
        self.captured_ns: int | None = None
        self.resets, self.stale = 0, False

    def reset(self) -> None:
        self.resets += 1

    def infer(
        self,
        sent: Mapping[str, Any],
        wanted: Callable[[], bool] = lambda: True,
        captured_ns: int | None = None,
    ) -> dict[str, Any]:
        self.captured_ns = captured_ns
        given = self.fields.observation(sent)
        state, self.seen = given[STATE], given[FRONT]
        actions = state + np.arange(self.horizon, dtype=np.float32)[:, None]
        timing = {"stale": float(self.stale), "failed": 0.0}
        return {"actions": actions, "policy_timing": timing, "server_timing": {"edge_ms": 1.0}}


def record(name: str, values: Mapping[str, Any]) -> bytes:
    """The pickle of one of LeRobot's dataclasses, written around that of its attributes."""
    attributes = pickle.dumps(dict(values), 4)
    start = 11 if attributes[2:3] == b"\x95" else 2  # behind the protocol and the frame
    return (
        b"\x80\x04c" + f"{MODULES[0]}\n{name}\n".encode() + b")\x81" + attributes[start:-1] + b"b."
    )


def instructions(features: Mapping[str, Any] = FEATURES, commands: int = 3) -> bytes:
    said = {"policy_type": "act", "pretrained_name_or_path": "x", "device": "cpu", "rename_map": {}}
    said |= {"lerobot_features": dict(features), "actions_per_chunk": commands}
    return actions_message(record("RemotePolicyConfig", said))


def observation(timestep: int = 0, **values: Any) -> bytes:
    picture = np.zeros((8, 10, 3), np.uint8)
    given = {"a.pos": 1.0, "b.pos": 2.0, "front": picture, "task": "fold", **values}
    return record(
        "TimedObservation", {"timestamp": 5.0, "timestep": timestep, "observation": given}
    )


class Client:
    """The calls of the client's stub, without its classes."""

    def __init__(self, server: LerobotServer) -> None:
        # Else two clients of one process are one connection.
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.insecure_channel("{}:{}".format(*server.address), options)

    def one(self, method: str, message: bytes = b"") -> bytes:
        found: bytes = self._channel.unary_unary(f"/transport.AsyncInference/{method}")(
            message, timeout=60, wait_for_ready=True
        )
        return found

    def observe(self, message: bytes, pieces: int = 1) -> None:
        size = -(-len(message) // pieces)
        parts = [message[start : start + size] for start in range(0, len(message), size)]
        states = [1, *([2] * (len(parts) - 2)), END] if len(parts) > 1 else [END]
        sent = (
            b"\x08" + bytes([state]) + b"\x12" + actions_message(part)[1:]
            for state, part in zip(states, parts, strict=True)
        )
        call = self._channel.stream_unary("/transport.AsyncInference/SendObservations")
        call(iter(sent), timeout=60)

    def close(self) -> None:
        self._channel.close()


@contextmanager
def serving(policy: Any, **options: Any) -> Iterator[tuple[LerobotServer, Client]]:
    server = LerobotServer(policy, **options)
    client = Client(server)
    try:
        yield server, client
    finally:
        client.close()
        server.shutdown()


def commands(answer: bytes) -> list[dict[str, Any]]:
    """The timed actions of an answer, by a reader that makes a map of each."""

    class Reader(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            assert (module, name) in ((MODULES[0], "TimedAction"), ("torch", "tensor"))
            return type("TimedAction", (), {}) if name == "TimedAction" else np.array

    return [vars(one) for one in Reader(io.BytesIO(data_of(answer, 1))).load()]
