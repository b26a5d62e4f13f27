"""Who may talk to whom: keys, TLS, and refusals that say what is wrong."""

from __future__ import annotations

import ssl
import stat
from pathlib import Path

import numpy as np
import pytest
from deployments import DIGEST, crossing_deployment, served
from programs import observation
from test_split import run_whole

from vlacut.errors import InputError, PeerLost, WireError
from vlacut.keys import make_keys
from vlacut.runtime.security import cloud_context, edge_context, is_loopback
from vlacut.runtime.session import EdgeSession


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    make_keys(folder, ("robot",), 1)
    return folder


def test_a_step_in_tls(keys: Path) -> None:
    program, plan, engines = crossing_deployment()
    observed = observation(program)
    with (
        served(plan, engines, tls=cloud_context(keys / "cloud")) as server,
        EdgeSession(
            plan, DIGEST, engines, server.address, tls=edge_context(keys / "robot")
        ) as policy,
    ):
        for _ in range(3):
            action = policy.step(observed)
    for name, expected in run_whole(program, observed).items():
        np.testing.assert_array_equal(action[name], expected)


def test_keys_of_another_authority_are_refused(keys: Path, tmp_path: Path) -> None:
    _, plan, engines = crossing_deployment()
    make_keys(tmp_path, ("robot",), 1)
    with served(plan, engines, tls=cloud_context(keys / "cloud")) as server:
        with pytest.raises(WireError, match=r"no TLS with the other side .*same vlacut"):
            EdgeSession(plan, DIGEST, engines, server.address, tls=edge_context(tmp_path / "robot"))
        stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # believes the cloud, shows nothing
        stranger.check_hostname = False
        stranger.load_verify_locations(keys / "robot" / "ca.pem")
        with pytest.raises(WireError, match=r"hung up in the handshake .*same vlacut keys"):
            EdgeSession(plan, DIGEST, engines, server.address, tls=stranger)
        assert server.robots == 0


def test_a_robot_cannot_pose_as_the_cloud(keys: Path) -> None:
    _, plan, engines = crossing_deployment()
    with (
        served(plan, engines, tls=cloud_context(keys / "robot")) as server,
        pytest.raises(WireError, match="purpose"),
    ):
        EdgeSession(plan, DIGEST, engines, server.address, tls=edge_context(keys / "robot"))


@pytest.mark.parametrize("side", ["edge", "cloud"])
def test_tls_on_one_side_alone_is_no_connection(keys: Path, side: str) -> None:
    _, plan, engines = crossing_deployment()
    cloud = cloud_context(keys / "cloud") if side == "cloud" else None
    edge = edge_context(keys / "robot") if side == "edge" else None
    with served(plan, engines, tls=cloud) as server, pytest.raises(WireError, match="--tls"):
        EdgeSession(plan, DIGEST, engines, server.address, tls=edge)


def test_robots_are_added_and_nothing_is_overwritten(keys: Path) -> None:
    before = (keys / "cloud" / "key.pem").read_bytes()
    assert make_keys(keys, ("arm2",), 1) == [keys / "arm2"]
    assert (keys / "cloud" / "key.pem").read_bytes() == before
    assert (keys / "arm2" / "ca.pem").read_bytes() == (keys / "robot" / "ca.pem").read_bytes()
    for path in keys.glob("*/key.pem"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(InputError, match="arm2 is there already"):
        make_keys(keys, ("arm2",), 1)
    for name in ("cloud", "authority", "../x", ""):
        with pytest.raises(InputError, match="a name is one folder's"):
            make_keys(keys, (name,), 1)


def test_missing_keys_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"needs ca.pem, cert.pem and key.pem"):
        edge_context(tmp_path)


def test_off_loopback_needs_keys_or_a_word(keys: Path) -> None:
    _, plan, engines = crossing_deployment()
    with pytest.raises(InputError, match="not authenticated"):
        EdgeSession(plan, DIGEST, engines, ("192.0.2.1", 7000))
    assert [is_loopback(host) for host in ("localhost", "127.9.9.9", "::1")] == [True] * 3
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "localhost.evil.example")] == [
        False
    ] * 3
    with pytest.raises(PeerLost):  # a word lets it try; this address (RFC 5737) leads nowhere
        EdgeSession(plan, DIGEST, engines, ("192.0.2.1", 7000), timeout=0.1, insecure=True)
