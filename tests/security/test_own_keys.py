"""Keys that nobody would take are found before a machine starts; trust is renewed, and taken."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import pytest
from cryptography import x509
from support.deployments import DIGEST, crossing_deployment, served

import vlacut
from vlacut.errors import InputError, PeerRefused, WireError
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.wire.own_keys import check_keys
from vlacut.runtime.wire.security import cloud_context, edge_context
from vlacut.security.keys import make_keys, renew_keys, revoke_keys

SIDES = {"cloud": True, "robot": False}


def made_in_days(
    folder: Path, days: float, monkeypatch: pytest.MonkeyPatch, valid: int = 1
) -> None:
    """Keys that are made then, and not now."""

    class Then(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Then:
            return super().now(tz) + timedelta(days=days)

    with monkeypatch.context() as patch:
        patch.setattr("vlacut.security.keys.datetime", Then)
        make_keys(folder, ("robot",), valid)


@pytest.mark.parametrize(("machine", "cloud"), SIDES.items())
def test_keys_that_no_machine_takes_are_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str, cloud: bool
) -> None:
    def refused(folder: Path, why: str, cloud: bool = cloud) -> None:
        with pytest.raises(InputError, match=why):
            check_keys(folder, cloud=cloud)

    good = tmp_path / "good"
    make_keys(good, ("robot",), 100)
    assert check_keys(good / machine, cloud=cloud) == []
    refused(good / machine, r"no other machine takes these keys \(.*purpose", not cloud)
    made_in_days(tmp_path / "ended", -10, monkeypatch)
    refused(tmp_path / "ended" / machine, r"expired\); see that both clocks are right, or make")
    made_in_days(tmp_path / "early", 10, monkeypatch)
    refused(tmp_path / "early" / machine, r"not yet valid\); see that both clocks are right")
    other = tmp_path / "other"
    make_keys(other, ("robot",), 100)
    mixed = tmp_path / "mixed"
    for file, why in (
        ("ca.pem", "no other machine takes these keys"),
        ("key.pem", "needs ca.pem, cert.pem and key.pem"),
    ):
        shutil.rmtree(mixed, ignore_errors=True)
        shutil.copytree(good / machine, mixed)
        shutil.copy(other / machine / file, mixed)
        refused(mixed, why)


def test_a_side_looks_at_its_keys_before_it_starts(
    split_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_in_days(tmp_path, -10, monkeypatch)
    with pytest.raises(InputError, match="no other machine takes these keys"):
        vlacut.serve(split_bundle, tls=tmp_path / "cloud")
    with pytest.raises(InputError, match="no other machine takes these keys"):
        vlacut.connect(split_bundle, "127.0.0.1:9", tls=tmp_path / "robot")


@pytest.mark.parametrize(("machine", "cloud"), SIDES.items())
def test_a_certificate_that_ends_soon_is_warned_of(
    tmp_path: Path, machine: str, cloud: bool
) -> None:
    make_keys(tmp_path, ("robot",), 29)
    (warning,) = check_keys(tmp_path / machine, cloud=cloud)
    assert "the certificate ends in 29.0 days" in warning
    assert "vlacut keys --renew" in warning
    renew_keys(tmp_path, (machine,), 100)
    assert check_keys(tmp_path / machine, cloud=cloud) == []


def test_keys_that_others_may_read_are_warned_of_and_write_refused(
    keys: Path, tmp_path: Path, split_bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "cloud"
    shutil.copytree(keys / "cloud", folder)
    (folder / "key.pem").chmod(0o644)
    with caplog.at_level(logging.WARNING, "vlacut.server"):
        vlacut.serve(split_bundle, tls=folder).close()
    assert "key.pem: others may read it" in caplog.text
    (folder / "key.pem").chmod(0o600)
    for name in ("ca.pem", "cert.pem", "key.pem"):
        mode = (folder / name).stat().st_mode
        (folder / name).chmod(mode | 0o002)
        with pytest.raises(InputError, match=f"{name}: anybody may write it"):
            vlacut.serve(split_bundle, tls=folder)
        (folder / name).chmod(mode)


def test_a_robot_whose_trust_was_taken_away_is_refused(
    tmp_path: Path, connects: Callable[[Path, Path], None]
) -> None:
    make_keys(tmp_path, ("robot", "arm2", "arm3"), 100)
    cloud = tmp_path / "cloud"
    assert revoke_keys(tmp_path, ("robot",)) == cloud / "revoked.pem"
    with pytest.raises(PeerRefused, match=r"revoked\); its trust was taken away"):
        connects(cloud, tmp_path / "robot")
    connects(cloud, tmp_path / "arm2")
    revoke_keys(tmp_path, ("arm2",))  # the first stays revoked
    for robot in ("robot", "arm2"):
        with pytest.raises(PeerRefused, match="revoked"):
            connects(cloud, tmp_path / robot)
    connects(cloud, tmp_path / "arm3")
    renew_keys(tmp_path, ("arm2", "cloud"), 100)  # other keys, and the list stays
    connects(cloud, tmp_path / "arm2")
    with pytest.raises(PeerRefused, match="revoked"):
        connects(cloud, tmp_path / "robot")
    check_keys(cloud, cloud=True)


def test_a_list_of_another_authority_takes_nobody_s_trust_away_and_lets_nobody_in(
    tmp_path: Path, connects: Callable[[Path, Path], None]
) -> None:
    for name in ("one", "other"):
        make_keys(tmp_path / name, ("robot",), 100)
    revoke_keys(tmp_path / "other", ("robot",))
    shutil.copy(tmp_path / "other" / "cloud" / "revoked.pem", tmp_path / "one" / "cloud")
    with pytest.raises(WireError):
        connects(tmp_path / "one" / "cloud", tmp_path / "one" / "robot")
    (tmp_path / "one" / "cloud" / "revoked.pem").write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"revoked.pem: cannot be read; copy it again"):
        cloud_context(tmp_path / "one" / "cloud")


@pytest.fixture
def connects() -> Callable[[Path, Path], None]:
    """Connects a robot with keys to a cloud with keys."""

    def connect(cloud: Path, robot: Path) -> None:
        _, plan, engines = crossing_deployment()
        with (
            served(plan, engines, tls=cloud_context(cloud)) as server,
            EdgeSession(plan, DIGEST, engines, server.address, tls=edge_context(robot)),
        ):
            pass

    return connect


def test_what_cannot_be_renewed_or_revoked_is_one_line(tmp_path: Path) -> None:
    make_keys(tmp_path, ("robot",), 100)
    for name in ("nobody", "../robot", "authority", ""):
        with pytest.raises(InputError, match="no keys can be read there"):
            renew_keys(tmp_path, (name,), 1)
        with pytest.raises(InputError, match="no keys can be read there"):
            revoke_keys(tmp_path, (name,))
    with pytest.raises(InputError, match="make all keys anew"):
        revoke_keys(tmp_path, ("cloud",))
    assert not list(tmp_path.glob("*/revoked.pem"))


def test_no_certificate_outlives_the_authority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_in_days(tmp_path, -3600, monkeypatch)  # 50 days of ten years are left
    renew_keys(tmp_path, ("robot",), 825)
    ends = [
        x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
        for path in (tmp_path / "authority" / "ca.pem", tmp_path / "robot" / "cert.pem")
    ]
    assert ends[0] == ends[1]
    assert (tmp_path / "robot" / "key.pem").stat().st_mode & 0o077 == 0
