"""openpi's server, spoken to byte by byte: dialects, refusals, and a cloud that goes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.commands import Vlacut
from support.http import fetch
from support.openpi import asked, client, endpoint, observed
from support.proxy import Proxy, wait_until
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

import vlacut as library
from vlacut.api import Policy
from vlacut.errors import BackendError, InputError
from vlacut.integrations.fields import Field
from vlacut.integrations.openpi.packing import pack, unpack
from vlacut.integrations.openpi.policy import OpenpiPolicy, due_rows
from vlacut.integrations.openpi.server import OpenpiServer
from vlacut.runtime.cloud.server import Server

OMNI = "/v1/realtime/robot/openpi"


@pytest.fixture(scope="module")
def cloud(split_bundle: Path) -> Iterator[Server]:
    server = library.serve(split_bundle)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join(10)


@pytest.fixture
def session(split_bundle: Path, cloud: Server) -> Iterator[Policy]:
    with library.connect(split_bundle, "{}:{}".format(*cloud.address), deadline=5.0) as policy:
        yield policy


def test_a_client_of_openpi_gets_chunks_and_where_they_come_from(session: Policy) -> None:
    golden = session.bundle.golden("action")["action"]
    with endpoint(OpenpiPolicy(session)) as server, client(server) as socket:
        assert unpack(socket.recv(5)) == {"action_horizon": 1, "action_dim": 64}
        first, second = (asked(socket, observed(session)) for _ in range(2))
    for found in (first, second):
        np.testing.assert_array_equal(found["actions"], golden)
        assert found["actions"].dtype == np.float32
        timings = found["server_timing"] | found["policy_timing"]
        assert all(isinstance(value, float) for value in timings.values())
        assert found["policy_timing"]["stale"] == found["policy_timing"]["failed"] == 0
        assert found["server_timing"]["bytes_up"] > 0
    assert "prev_total_ms" not in first["server_timing"]
    assert second["server_timing"]["prev_total_ms"] > 0
    assert [found["policy_timing"]["step"] for found in (first, second)] == [0, 1]


def test_roboarena_says_endpoint_and_gets_the_array(session: Policy) -> None:
    resets = counted(session)
    golden = session.bundle.golden("action")["action"]
    with endpoint(OpenpiPolicy(session)) as server, client(server) as socket:
        socket.recv(5)
        sent = {**observed(session), "endpoint": "infer", "session_id": "a"}
        np.testing.assert_array_equal(asked(socket, sent), golden)
        assert len(resets) == 2  # of the connection, and of the first session
        asked(socket, sent)
        assert len(resets) == 2
        asked(socket, sent | {"session_id": np.array("b")})
        assert len(resets) == 3
        assert asked(socket, {"endpoint": "reset"}) == "reset successful"
        assert len(resets) == 4


def counted(session: Policy) -> list[int]:
    """One entry for each reset from now on."""
    resets: list[int] = []
    reset: Callable[[], None] = session.reset
    session.reset = lambda: (resets.append(1), reset())[1]  # type: ignore[method-assign]
    return resets


def test_vllm_omni_goes_on_after_an_error(session: Policy) -> None:
    golden = session.bundle.golden("action")["action"]
    with endpoint(OpenpiPolicy(session)) as server, client(server, OMNI) as socket:
        socket.recv(5)
        wrong = asked(socket, {"imag": np.zeros(64)})
        assert wrong["type"] == "error"
        assert "no input 'imag'; did you mean image?" in wrong["message"]
        np.testing.assert_array_equal(asked(socket, observed(session)), golden)
        assert asked(socket, {"endpoint": "reset"}) == {"status": "reset successful"}


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"imag": np.zeros(64)}, "ObservationError: the bundle has no input 'imag'; did you mean"),
        ({"image": np.zeros(64)}, "ObservationError: missing from the observation: state"),
        ({"image": np.full(64, np.nan), "state": np.zeros(64)}, "ObservationError: image: holds a"),
        ({"endpoint": "kill"}, "ObservationError: endpoint 'kill' is none"),
        ({"endpoint": np.zeros(2)}, "ObservationError: endpoint is no text and no number"),
        ({"session_id": {"a": np.zeros(2)}}, "ObservationError: session_id is no text"),
        ([1], "ObservationError: the message is no map of an observation: [1]"),
        ("hello", "WireError: the message is text"),
    ],
)
def test_a_wrong_request_is_said_and_the_end(session: Policy, message: object, said: str) -> None:
    """As openpi's server does it; the next client is served."""
    with endpoint(OpenpiPolicy(session)) as server:
        with client(server) as socket:
            socket.recv(5)
            answer = asked(socket, message)
            assert answer.startswith(said)
            with pytest.raises(ConnectionClosedError) as caught:
                socket.recv(5)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1011
        with client(server) as socket:
            socket.recv(5)
            assert "actions" in asked(socket, observed(session))


def test_a_message_that_is_too_large_is_not_read(session: Policy) -> None:
    with endpoint(OpenpiPolicy(session)) as server, client(server) as socket:
        socket.recv(5)
        socket.send(bytes(2_000_000))
        with pytest.raises(ConnectionClosedError) as caught:
            socket.recv(5)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1009


def test_health_pages_of_browsers_and_a_second_client(session: Policy) -> None:
    with endpoint(OpenpiPolicy(session)) as server:
        assert fetch("http://{}:{}/healthz".format(*server.address)) == (200, "OK\n")
        with pytest.raises(InvalidStatus, match="403"), client(server, origin="http://evil"):
            pass
        with client(server) as socket:
            socket.recv(5)
            with client(server) as second, pytest.raises(ConnectionClosedError, match="another"):
                second.recv(5)
            assert "actions" in asked(socket, observed(session))

        def again() -> bool:
            with client(server) as third:
                return isinstance(third.recv(5), bytes)

        assert wait_until(lambda: not raises(again))


def raises(call: Callable[[], object]) -> bool:
    try:
        call()
    except ConnectionClosedError:
        return True
    return False


def test_pings_are_answered_while_a_step_is_made(session: Policy) -> None:
    go, step = threading.Event(), session.step
    session.step = lambda *given: (go.wait(20), step(*given))[1]  # type: ignore[method-assign]
    with endpoint(OpenpiPolicy(session)) as server, client(server) as socket:
        socket.recv(5)
        socket.send(pack(observed(session)))
        for _ in range(3):
            assert socket.ping().wait(5)
        go.set()
        assert "actions" in unpack(socket.recv(20))


def test_a_cloud_that_is_killed_ends_no_client(split_bundle: Path, cloud: Server) -> None:
    """The first chunk waits for a cloud; later ones are the last again, until it is back."""
    with Proxy(cloud.address) as proxy:
        address = f"127.0.0.1:{proxy.address[1]}"
        with library.connect(split_bundle, address, deadline=0.3, timeout=1.0) as session:
            proxy.target = ("127.0.0.1", 9)
            proxy.hang_up()
            with endpoint(OpenpiPolicy(session)) as server, client(server) as socket:
                socket.recv(5)
                socket.send(pack(observed(session)))
                with pytest.raises(TimeoutError):
                    socket.recv(1.0)
                proxy.target = cloud.address
                first = unpack(socket.recv(20))
                proxy.target = ("127.0.0.1", 9)
                proxy.hang_up()
                again = asked(socket, observed(session))
                assert again["policy_timing"]["stale"] == 1
                assert again["policy_timing"]["age_ms"] > first["policy_timing"]["age_ms"]
                np.testing.assert_array_equal(again["actions"], first["actions"])
                proxy.target = cloud.address

                def anew() -> bool:
                    return bool(asked(socket, observed(session))["policy_timing"]["stale"] == 0)

                assert wait_until(anew)


def test_an_engine_that_fails_gives_the_last_action_and_says_so(session: Policy) -> None:
    step, broken = session.step, threading.Event()

    def made(*given: Any) -> Any:
        if broken.is_set():
            raise BackendError("the engine is gone")
        return step(*given)

    session.step = made  # type: ignore[method-assign]
    with endpoint(OpenpiPolicy(session)) as server:
        with client(server) as socket:
            socket.recv(5)
            first = asked(socket, observed(session))
            broken.set()
            again = asked(socket, observed(session))
            assert again["policy_timing"]["failed"] == again["policy_timing"]["stale"] == 1
            np.testing.assert_array_equal(again["actions"], first["actions"])
            with client(server, OMNI) as other, pytest.raises(ConnectionClosedError):
                other.recv(5)
        assert wait_until(lambda: server._client is None)
        with client(server) as socket:  # a first step, with nothing to give again
            socket.recv(5)
            assert "BackendError: the engine is gone" in asked(socket, observed(session))


def test_a_chunk_that_is_given_again_goes_on_at_the_clients_rate() -> None:
    """Five commands at 10 a second: after 0.2 s the third is due, and the last one stays."""
    for since_s, rows in ((0.0, [0, 1, 2, 3, 4]), (0.2, [2, 3, 4, 4, 4]), (9.0, [4] * 5)):
        assert due_rows(5, since_s, 10.0).tolist() == rows
    assert due_rows(5, 9.0, None).tolist() == [0, 1, 2, 3, 4]


def test_names_of_the_bundle_are_checked_at_the_start(session: Policy) -> None:
    with pytest.raises(InputError, match="no output 'actoin'; did you mean action"):
        OpenpiPolicy(session, "actoin")
    with pytest.raises(InputError, match="no input 'imaeg'"):
        OpenpiPolicy(session, fields=[Field("cam", "imaeg")])
    with pytest.raises(InputError, match="is not loopback"):
        OpenpiServer(OpenpiPolicy(session), "0.0.0.0")
    with pytest.raises(InputError, match="metadata cannot be packed"):
        OpenpiServer(OpenpiPolicy(session), metadata={"a": object()})


def test_the_command_serves_a_client_until_it_is_told_to_end(
    split_bundle: Path, cloud: Server, tmp_path: Path
) -> None:
    (tmp_path / "m.json").write_text('{"image_resolution": [224, 224]}')
    words = ["run", split_bundle, "--cloud", "{}:{}".format(*cloud.address), "--deadline", "5s"]
    words += ["--serve", "openpi://127.0.0.1:0", "--map", "prompt=", "--json"]
    words += ["--metadata", tmp_path / "m.json", "--timeline", tmp_path / "t.json"]
    command = [sys.executable, "-m", "vlacut", *map(str, words)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        said = json.loads(child.stdout.readline())
        golden = library.bundle.reading.read_bundle(split_bundle).golden("observation")
        url = said["address"].replace("openpi", "ws")
        with connect(url, compression=None, proxy=None) as socket:
            assert unpack(socket.recv(20)) == {"image_resolution": [224, 224]}
            assert "actions" in asked(socket, {**golden, "prompt": "pick up the fork"})
            child.send_signal(signal.SIGTERM)
            with pytest.raises(Exception, match="1001"):
                socket.recv(20)
        child.communicate(timeout=20)
    assert child.returncode == 0
    assert json.loads((tmp_path / "t.json").read_text())["traceEvents"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--serve", "grpc://127.0.0.1:1"], "write openpi://HOST:PORT or lerobot://HOST:PORT"),
        (["--serve", "openpi://127.0.0.1"], "does not parse; write HOST:PORT"),
        (["--map", "a=b"], "--map and --metadata are of an endpoint: give its --serve"),
        (["--serve", "openpi://127.0.0.1:0", "--reset-every", "3"], "do not go with --serve"),
    ],
)
def test_options_that_do_not_fit(
    vlacut: Vlacut, split_bundle: Path, words: list[str], said: str
) -> None:
    status, _, error = vlacut("run", split_bundle, *words)
    assert (status, said in error) == (2, True), error


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[1]", "is no JSON object"),
        ("{", "cannot be read as a JSON object"),
        (f'{{"a": "{" " * (1 << 20)}"}}', "is larger than 1048576 bytes"),
    ],
)
def test_metadata_that_cannot_be_sent(
    vlacut: Vlacut, split_bundle: Path, tmp_path: Path, text: str, expected: str
) -> None:
    (tmp_path / "m.json").write_text(text)
    words = ["--serve", "openpi://127.0.0.1:0", "--metadata", tmp_path / "m.json"]
    status, _, error = vlacut("run", split_bundle, "--cloud", "127.0.0.1:9", *words)
    assert status == 2
    assert expected in error
