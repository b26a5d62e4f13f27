"""Who may talk to whom: keys, TLS, and refusals that say what is wrong."""

from __future__ import annotations

import itertools
import logging
import shutil
import ssl
import stat
from collections.abc import Iterator
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import numpy as np
import pytest
from support.cutting import run_whole
from support.deployments import DIGEST, crossing_deployment, served
from support.programs import observation

from vlacut.errors import InputError, PeerLost, PeerRefused, WireError
from vlacut.runtime.cloud.deployment import ready
from vlacut.runtime.cloud.server import Server
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.wire.security import cloud_context, edge_context, is_loopback
from vlacut.security.keys import make_keys


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
        with pytest.raises(WireError, match=r"certificate required.*same vlacut keys"):
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
    with pytest.raises(InputError, match="not authenticated"):
        Server([ready(plan, DIGEST, engines)], "192.0.2.1")
    assert [is_loopback(host) for host in ("localhost", "127.9.9.9", "::1")] == [True] * 3
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "localhost.evil.example")] == [
        False
    ] * 3
    with pytest.raises(PeerLost):  # a word lets it try; this address (RFC 5737) leads nowhere
        EdgeSession(plan, DIGEST, engines, ("192.0.2.1", 7000), timeout=0.1, insecure=True)


def made_days_ago(folder: Path, robots: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that were valid for a day, ten days ago."""

    class Then(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Then:
            return super().now(tz) - timedelta(days=10)

    with monkeypatch.context() as patch:
        patch.setattr("vlacut.security.keys.datetime", Then)
        make_keys(folder, robots, 1)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("expired", r"certificate expired\); see that both clocks are right, or make keys anew"),
        ("cloud's", r"unsupported certificate\); vlacut run takes a robot's folder"),
        ("stranger's", r"unknown ca\); both need --tls, with keys of the same vlacut keys"),
    ],
)
def test_keys_that_the_cloud_does_not_take(
    keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str, says: str
) -> None:
    """The edge hears why, though in TLS 1.3 its own half of the handshake is over by then."""
    _, plan, engines = crossing_deployment()
    folder = tmp_path / "robot"
    if wrong == "expired":
        shutil.copytree(keys / "authority", tmp_path / "authority")
        shutil.copytree(keys / "cloud", tmp_path / "cloud")
        made_days_ago(tmp_path, ("robot",), monkeypatch)
    elif wrong == "cloud's":
        folder = keys / "cloud"
    else:
        make_keys(tmp_path, ("robot",), 1)
        shutil.copy(keys / "robot" / "ca.pem", folder)
    with (
        served(plan, engines, tls=cloud_context(keys / "cloud")) as server,
        pytest.raises(PeerRefused, match=says),
    ):
        EdgeSession(plan, DIGEST, engines, server.address, tls=edge_context(folder))


def test_an_expired_cloud_is_no_reason_to_look_for_other_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, plan, engines = crossing_deployment()
    made_days_ago(tmp_path, ("robot",), monkeypatch)
    with (
        served(plan, engines, tls=cloud_context(tmp_path / "cloud")) as server,
        pytest.raises(PeerRefused, match=r"certificate has expired\); see that both clocks"),
    ):
        EdgeSession(plan, DIGEST, engines, server.address, tls=edge_context(tmp_path / "robot"))


def test_the_name_in_a_certificate_is_the_robot_s(
    keys: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, plan, engines = crossing_deployment()
    with (
        caplog.at_level(logging.INFO, "vlacut.server"),
        served(plan, engines, tls=cloud_context(keys / "cloud")) as server,
        EdgeSession(plan, DIGEST, engines, server.address, tls=edge_context(keys / "robot")),
    ):
        pass
    named = [record.__dict__["robot"] for record in caplog.records if hasattr(record, "robot")]
    assert [name.partition("@")[0] for name in named] == ["robot", "robot"]


def test_keys_are_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted between two files, at every one of them; the next call makes what is missing."""
    made = 0
    while made < 8:
        calls = itertools.count()

        def full(descriptor: int, at: int = made, calls: Iterator[int] = calls) -> None:
            if next(calls) == at:
                raise OSError(28, "No space left on device")

        folder = tmp_path / str(made)
        with monkeypatch.context() as patch:
            patch.setattr("vlacut.security.keys.os.fsync", full)
            with pytest.raises(InputError, match="cannot be written: No space left on device"):
                make_keys(folder, ("robot",), 1)
        for home in folder.iterdir():
            assert home.name == "authority" or edge_context(home)
        missing = {"authority", "cloud", "robot"} - {home.name for home in folder.iterdir()}
        assert {home.name for home in make_keys(folder, ("robot",), 1)} == missing
        cloud_context(folder / "cloud")
        edge_context(folder / "robot")
        made += 1


@pytest.mark.parametrize("name", ["a" * 65, "a\nb"])
def test_a_name_that_no_certificate_holds(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="a name has 64 characters at most"):
        make_keys(tmp_path / "keys", (name,), 1)
    with pytest.raises(InputError, match="valid for 36500 at most"):
        make_keys(tmp_path / "keys", ("robot",), 10**8)
    assert not (tmp_path / "keys").exists()
    assert len(make_keys(tmp_path / "keys", ("robot", "robot"), 1)) == 3
