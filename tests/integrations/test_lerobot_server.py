"""LeRobot's asynchronous wire, spoken to as its `RobotClient` does, with a played policy."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
import pytest

from vlacut.errors import InputError
from vlacut.integrations.endpoint import open_endpoint, read_endpoint, url_of
from vlacut.integrations.fields import Fields
from vlacut.integrations.lerobot.messages import END, actions_message, data_of
from vlacut.integrations.lerobot.pickles import MODULES
from vlacut.integrations.lerobot.server import LerobotServer
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
        self.fields = Fields(specs)
        self.resets, self.stale = 0, False

    def reset(self) -> None:
        self.resets += 1

    def infer(self, sent: Mapping[str, Any], wanted: Callable[[], bool]) -> dict[str, Any]:
        state = self.fields.observation(sent)[STATE]
        actions = state + np.arange(self.horizon, dtype=np.float32)[:, None]
        return {"actions": actions, "policy_timing": {"stale": float(self.stale)}}


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


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Played, Client]]:
    policy = Played()
    with serving(policy, rate=10.0) as (_, client):
        yield policy, client


@pytest.fixture
def begun(served: tuple[Played, Client]) -> tuple[Played, Client]:
    policy, client = served
    policy.stale = False
    client.one("Ready")
    client.one("SendPolicyInstructions", instructions())
    return policy, client


def commands(answer: bytes) -> list[dict[str, Any]]:
    """The timed actions of an answer, by a reader that makes a map of each."""

    class Reader(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            assert (module, name) in ((MODULES[0], "TimedAction"), ("torch", "tensor"))
            return type("TimedAction", (), {}) if name == "TimedAction" else np.array

    return [vars(one) for one in Reader(io.BytesIO(data_of(answer, 1))).load()]


@pytest.mark.parametrize("pieces", [1, 3])
def test_an_observation_becomes_timed_actions(begun: tuple[Played, Client], pieces: int) -> None:
    policy, client = begun
    before = policy.resets
    client.observe(observation(timestep=7), pieces)
    found = commands(client.one("GetActions"))
    assert [one["timestep"] for one in found] == [7, 8, 9]  # as many as the client asks for
    np.testing.assert_allclose([one["timestamp"] for one in found], [5.0, 5.1, 5.2])
    np.testing.assert_array_equal([one["action"] for one in found], [[1, 2], [2, 3], [3, 4]])
    client.one("Ready")
    assert policy.resets == before + 1


def test_the_newest_observation_counts(begun: tuple[Played, Client]) -> None:
    _, client = begun
    for timestep in (0, 1, 2):
        client.observe(observation(timestep))
    assert commands(client.one("GetActions"))[0]["timestep"] == 2


def test_a_question_is_held_until_there_is_an_observation(begun: tuple[Played, Client]) -> None:
    _, client = begun
    answers: list[bytes] = []
    thread = threading.Thread(target=lambda: answers.append(client.one("GetActions")))
    thread.start()
    client.observe(observation())
    thread.join()
    # Under load the question may have been there, and answered by nothing, before the observation.
    assert commands(answers[0] or client.one("GetActions"))


def test_a_stale_step_gets_no_commands(begun: tuple[Played, Client]) -> None:
    policy, client = begun
    policy.stale = True
    client.observe(observation())
    assert client.one("GetActions") == b""


def wrong(features: Mapping[str, Any]) -> dict[str, Any]:
    return {**{name: one for name, one in FEATURES.items() if name != FRONT}, **features}


@pytest.mark.parametrize(
    ("features", "said"),
    [
        (wrong({"observation.images.fron": FEATURES[FRONT]}), f"did you mean {FRONT}"),
        (wrong({FRONT: {**FEATURES[FRONT], "shape": (8, 12, 3)}}), "shape is [8, 12, 3]"),
        (
            wrong({FRONT: {**FEATURES[FRONT], "shape": (1 << 20, 1 << 20, 3)}}),
            "more than the bundle",
        ),
        (wrong({}), f"missing from the observation: {FRONT}"),
        (
            wrong({STATE: {"dtype": "float32", "shape": (3,), "names": ["a"]}}),
            "not a name for each",
        ),
    ],
)
def test_a_robot_that_does_not_fit_is_refused_when_it_connects(
    begun: tuple[Played, Client], features: dict[str, Any], said: str
) -> None:
    _, client = begun
    with pytest.raises(grpc.RpcError) as refused:
        client.one("SendPolicyInstructions", instructions(features))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert said in refused.value.details()


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (b"\x80\x04cos\nsystem\n.", "os.system, which is not admitted"),
        (record("RemotePolicyConfig", {}), "no TimedObservation"),
        (bytes(1 << 20), "more than"),
    ],
)
def test_a_wrong_observation_is_refused(
    begun: tuple[Played, Client], message: bytes, said: str
) -> None:
    _, client = begun
    with pytest.raises(grpc.RpcError) as refused:
        client.observe(message)
    assert said in refused.value.details()


def test_what_the_robot_does_not_give_is_named(begun: tuple[Played, Client]) -> None:
    _, client = begun
    lacking = {"timestamp": 5.0, "timestep": 0, "observation": {"a.pos": 1.0, "b.po": 2.0}}
    client.observe(record("TimedObservation", lacking))
    with pytest.raises(grpc.RpcError, match=r"no 'b\.pos'; did you mean"):
        client.one("GetActions")


def test_a_second_client_is_turned_away() -> None:
    with serving(Played()) as (server, first):
        first.one("Ready")
        second = Client(server)
        with pytest.raises(grpc.RpcError, match="another client drives"):
            second.one("Ready")
        second.close()


def test_actions_before_instructions_are_refused() -> None:
    with serving(Played()) as (_, client):
        client.one("Ready")
        client.observe(observation())
        with pytest.raises(grpc.RpcError, match="sent no instructions"):
            client.one("GetActions")


def test_the_endpoint_is_read_and_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = read_endpoint("lerobot://127.0.0.1:0", ["task="], None)
    assert asked is not None
    monkeypatch.setattr("vlacut.integrations.endpoint.OpenpiPolicy", lambda *_: Played())
    server = open_endpoint(asked, None, fixed={})  # type: ignore[arg-type]
    try:
        assert url_of(asked, server) == f"lerobot://127.0.0.1:{server.address[1]}"
        with pytest.raises(InputError, match="taken"):
            LerobotServer(Played(), port=server.address[1])  # type: ignore[arg-type]
    finally:
        server.shutdown()
    with pytest.raises(InputError, match="not loopback"):
        LerobotServer(Played(), "192.0.2.1")  # type: ignore[arg-type]
