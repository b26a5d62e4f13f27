"""LeRobot's asynchronous wire, spoken to as its `RobotClient` does, with a played policy."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any

import grpc
import numpy as np
import pytest
from support.lerobot_wire import (
    FEATURES,
    FRONT,
    STATE,
    Client,
    Played,
    commands,
    instructions,
    observation,
    record,
    serving,
)

from vlacut.errors import InputError
from vlacut.integrations.endpoint import open_endpoint, read_endpoint, url_of
from vlacut.integrations.lerobot.server import LerobotServer


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
    client.observe(observation(**{"b.pos": [2.0]}))
    with pytest.raises(grpc.RpcError, match=r"'b\.pos' of the observation is no number"):
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
