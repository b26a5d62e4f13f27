"""What the command line says when something is wrong: one line, an object, and a status."""

from __future__ import annotations

import io
import json
import stat
from pathlib import Path

import numpy as np
import pytest
from support.commands import Vlacut
from support.deployments import serving_thread

from vlacut import api
from vlacut.bundle.staging import write_file
from vlacut.cli.show.output import print_json
from vlacut.errors import one_line
from vlacut.runtime.wire.sockets import written

NOBODY = ("--cloud", "127.0.0.1:1")


@pytest.mark.parametrize(
    ("words", "status", "kind", "says"),
    [
        (("run", "BUNDLE", *NOBODY), 1, "PeerLost", "start vlacut serve there"),
        (("run", "BUNDLE", *NOBODY, "--steps", "0"), 2, "UsageError", "see vlacut run --help"),
        (("run", "BUNDLE", *NOBODY, "--speed", "9"), 2, "UsageError", "--speed"),
        (("run",), 2, "UsageError", "Missing argument 'BUNDLE'; see vlacut run --help"),
        (("drive",), 2, "UsageError", "No such command 'drive'"),
        (("run", "BUNDLE", *NOBODY, "--timeout", "0"), 2, "InputError", "the timeout is 0 s"),
        (("run", "BUNDLE", *NOBODY, "--timeout", "nan"), 2, "InputError", "the timeout is nan s"),
        (
            ("run", "BUNDLE", *NOBODY, "--timeline", "no/x"),
            2,
            "InputError",
            "there is no folder no; make it",
        ),
        (("run", "BUNDLE", *NOBODY, "--output", "."), 2, "InputError", "is a folder; name a file"),
        (("calibrate-actions", "BUNDLE", "e", "-o", "no/x"), 2, "InputError", "no folder no; make"),
        (("calibrate-precision", "BUNDLE", "e", "-o", "."), 2, "InputError", "is a folder; name"),
        (("calibrate-draft", "BUNDLE", "e", "-o", "."), 2, "InputError", "is a folder; name"),
        (("run", "BUNDLE", *NOBODY, "--input", "none.npz"), 1, "PeerLost", "nobody answers"),
        (("serve", "BUNDLE", "--port", "70000"), 2, "UsageError", "0<=x<=65535"),
        (("plan", "m.onnx", "--in-flight", "many"), 2, "UsageError", "write a number, or auto"),
        (("plan", "m.onnx", "--in-flight", "9" * 5000), 2, "UsageError", "write a number, or"),
        (("serve", "BUNDLE", "--robots", "0"), 2, "UsageError", "x>=1"),
        (("serve", "BUNDLE", "--port", "0", "--metrics", "no"), 2, "InputError", "does not parse"),
        (("calibrate", "-o", "no/x.toml"), 2, "InputError", "there is no folder no; make it"),
        (("profile", "BUNDLE", "--side", "both", "-o", "."), 2, "InputError", "is a folder; name"),
        (("train-predictor", ".", "-o", "no/x"), 2, "InputError", "there is no folder no; make it"),
        (("keys", "/proc/keys"), 2, "InputError", "cannot be written"),
        (("sign", "BUNDLE", "--key", "BUNDLE"), 2, "InputError", "cannot be read as a private"),
    ],
)
def test_one_line_one_object_and_a_status(
    vlacut: Vlacut,
    split_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: tuple[str, ...],
    status: int,
    kind: str,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [str(split_bundle) if word == "BUNDLE" else word for word in words]
    found, out, err = vlacut(*given, "--json")
    assert (found, err.count("\n")) == (status, 1), err
    error = json.loads(out)["error"]
    assert error["kind"] == kind
    assert says in error["message"]
    assert err == f"vlacut: {error['message']}\n"
    assert vlacut(*given) == (status, "", err)


def test_what_may_be_otherwise_later_is_another_status(
    vlacut: Vlacut, split_bundle: Path, onnx_file: Path, tmp_path: Path
) -> None:
    """A server that is full has status 1, one of another bundle status 2."""
    fast = ("--edge", "jetson-agx-orin", "--cloud", "a100", "--link", "100GB/s")
    assert vlacut("compile", onnx_file, *fast, "--pin", "*=cloud", "-o", tmp_path / "b")[0] == 0
    server = api.serve(split_bundle, most_robots=1)
    address = written(*server.address)
    with serving_thread(server), api.connect(split_bundle, address):
        status, out, _ = vlacut("run", split_bundle, "--cloud", address, "--json")
        assert (status, json.loads(out)["error"]["kind"]) == (1, "PeerUnable")
        status, out, _ = vlacut("run", tmp_path / "b", "--cloud", address, "--json")
        assert (status, json.loads(out)["error"]["kind"]) == (2, "PeerRefused")


def test_a_command_alone_shows_what_there_is(vlacut: Vlacut) -> None:
    status, _, err = vlacut()
    assert status == 2
    assert "Usage: vlacut" in err


def test_an_input_that_is_none_is_said_to_be(tmp_path: Path) -> None:
    from vlacut.errors import ObservationError
    from vlacut.tensor.observations import read_observation

    whole = io.BytesIO()
    np.savez(whole, image=np.arange(100.0))
    one = io.BytesIO()
    np.save(one, np.arange(3))
    bent = bytearray(whole.getvalue())
    bent[60] ^= 0xFF
    for data in (b"", b"text", whole.getvalue()[:-30], b"PK\x03\x04", one.getvalue(), bytes(bent)):
        (tmp_path / "x.npz").write_bytes(data)
        with pytest.raises(ObservationError, match=r"x\.npz: "):
            read_observation(tmp_path / "x.npz")
    with pytest.raises(ObservationError, match=r"none\.npz: cannot be read: No such file or dire"):
        read_observation(tmp_path / "none.npz")
    (tmp_path / "x.npz").write_bytes(whole.getvalue())
    np.testing.assert_array_equal(read_observation(tmp_path / "x.npz")["image"], np.arange(100.0))


def test_json_holds_no_number_that_json_has_not(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"action": {"arm": [[1.5, float("nan")], [float("-inf"), 2.0]]}, "error": None})

    def none(name: str) -> None:
        raise AssertionError(name)

    found = json.loads(capsys.readouterr().out, parse_constant=none)
    assert found == {"action": {"arm": [[1.5, None], [None, 2.0]]}, "error": None}


def test_what_others_say_is_one_line() -> None:
    assert one_line("a\r\nb\x1b[2J\tc\u2028d") == "a b?[2J c d"


def test_a_file_is_replaced_and_a_device_is_written_to(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("before")
    link.symlink_to(real)
    write_file(link, "after")
    assert link.is_symlink()
    assert real.read_text() == "after"
    write_file(Path("/dev/null"), b"x")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    with pytest.raises(OSError, match="No space left"):
        write_file(Path("/dev/full"), b"x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]
