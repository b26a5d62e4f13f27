"""Halves of a bundle: what is in them, that they meet, and what they are refused for."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from support.commands import Vlacut

import vlacut as library
from vlacut.bundle.halving import write_half
from vlacut.bundle.opened import Bundle
from vlacut.bundle.reading import open_bundle, read_bundle
from vlacut.errors import BundleError, PeerRefused, VlacutError
from vlacut.hardware import Side
from vlacut.security.signing import check_signature, make_signer, sign_bundle


@pytest.fixture
def halves(split_bundle: Path, tmp_path: Path) -> dict[Side, Bundle]:
    whole = read_bundle(split_bundle)
    return {side: write_half(whole, side, tmp_path / f"{side}.half") for side in Side}


def weights(bundle: Bundle) -> set[str]:
    return {path.name for path in (bundle.root / "weights").iterdir()}


def test_each_side_has_its_parts_and_their_weights_alone(
    split_bundle: Path, halves: dict[Side, Bundle]
) -> None:
    whole = read_bundle(split_bundle)
    edge, cloud = halves[Side.EDGE], halves[Side.CLOUD]
    assert weights(edge) | weights(cloud) <= weights(whole)
    assert not weights(edge) & weights(cloud)
    for side, half in halves.items():
        assert (half.half, half.digest) == (side, whole.digest)
        names = {path.name for path in (half.root / "parts").iterdir()}
        assert names == {f"{part.name}.onnx" for part in whole.parts(side)}
        held = {str(path.relative_to(half.root)) for path in half.root.rglob("*") if path.is_file()}
        assert held == half.files.keys() | {"manifest.json", "manifest.json.sha256", "half"}
        for name in half.files:
            assert (half.root / name).read_bytes() == (split_bundle / name).read_bytes()
        assert open_bundle(half.root, half=True).files == half.files
        assert f"the {side}'s half" in half.summary()
    assert edge.has_golden
    assert not cloud.has_golden


@pytest.mark.parametrize("in_place", [False, True])
def test_server_and_robot_run_from_halves(halves: dict[Side, Bundle], in_place: bool) -> None:
    server = library.serve(halves[Side.CLOUD].root, in_place=in_place)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        address = "{}:{}".format(*server.address)
        with library.connect(halves[Side.EDGE].root, address, in_place=in_place) as policy:
            action = policy.step(policy.bundle.golden("observation"))
            assert policy.last.frames > 0
        for name, array in halves[Side.EDGE].golden("action").items():
            np.testing.assert_array_equal(action[name], array)
    finally:
        server.shutdown()
        thread.join(10)


def test_halves_of_different_bundles_refuse_each_other(
    halves: dict[Side, Bundle], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(halves[Side.EDGE].root, other)
    _rename(other)
    server = library.serve(halves[Side.CLOUD].root)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with pytest.raises(PeerRefused, match="bundle"):
            library.connect(other, "{}:{}".format(*server.address))
    finally:
        server.shutdown()
        thread.join(10)


def _rename(bundle: Path) -> None:
    """Another bundle: its manifest says something else of the pipeline."""
    import hashlib

    path = bundle / "manifest.json"
    data = json.dumps({**json.loads(path.read_text()), "pipeline": "another"}).encode()
    path.write_bytes(data)
    (bundle / "manifest.json.sha256").write_text(hashlib.sha256(data).hexdigest() + "\n")


def test_a_signature_is_of_both_halves(split_bundle: Path, tmp_path: Path) -> None:
    """Of the whole, signed before it is halved; and of a half that is signed itself."""
    whole, home = tmp_path / "whole", make_signer(tmp_path)
    shutil.copytree(split_bundle, whole)
    sign_bundle(read_bundle(whole), home / "key.pem")
    for side in Side:
        half = write_half(read_bundle(whole), side, tmp_path / side.value)
        check_signature(half, home / "public.pem")
    later = write_half(read_bundle(split_bundle), Side.EDGE, tmp_path / "later")
    with pytest.raises(BundleError, match="is not signed"):
        check_signature(later, home / "public.pem")
    sign_bundle(open_bundle(later.root, half=True), home / "key.pem")
    check_signature(open_bundle(later.root, half=True), home / "public.pem")


def test_a_half_is_refused_where_the_other_is_needed(halves: dict[Side, Bundle]) -> None:
    edge, cloud = (halves[side].root for side in Side)
    with pytest.raises(BundleError, match=r"the edge's half .* needs the cloud's; take"):
        library.serve(edge)
    with pytest.raises(BundleError, match=r"the cloud's half .* vlacut bundle edge of it"):
        library.connect(cloud, "127.0.0.1:9")
    with pytest.raises(BundleError, match="needs both; take the whole bundle"):
        library.verify(edge)
    with pytest.raises(BundleError, match="needs the cloud's"):
        write_half(halves[Side.EDGE], Side.CLOUD, edge.parent / "x")
    assert not (edge.parent / "x").exists()


@pytest.mark.parametrize("kind", ["parts", "weights", "golden"])
def test_a_half_that_is_damaged_is_refused(halves: dict[Side, Bundle], kind: str) -> None:
    edge = halves[Side.EDGE]
    name = next(name for name in edge.files if name.startswith(kind))
    data = (edge.root / name).read_bytes()
    (edge.root / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(BundleError, match=f"{name} is altered"):
        library.connect(edge.root, "127.0.0.1:9")
    (edge.root / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        library.connect(edge.root, "127.0.0.1:9")


@pytest.mark.parametrize("said", [b"", b"both\n", b"edge" * 1000, b"\xff\n"])
def test_a_half_must_say_whose_it_is(halves: dict[Side, Bundle], said: bytes) -> None:
    (halves[Side.EDGE].root / "half").write_bytes(said)
    with pytest.raises(BundleError, match="must say edge or cloud"):
        read_bundle(halves[Side.EDGE].root)


def test_a_bundle_that_is_damaged_is_not_halved(split_bundle: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(split_bundle, whole)
    damaged = read_bundle(whole).parts(Side.EDGE)[0]
    (whole / "parts" / f"{damaged.name}.onnx").write_bytes(b"no part")
    with pytest.raises(BundleError, match="is altered"):
        write_half(read_bundle(whole), Side.EDGE, tmp_path / "edge")
    with pytest.raises(BundleError, match="is the bundle itself"):
        write_half(read_bundle(split_bundle), Side.EDGE, split_bundle)
    assert {path.name for path in tmp_path.iterdir()} == {"whole"}


def test_the_commands(vlacut: Vlacut, split_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "robot.vlacut"
    status, said, error = vlacut("bundle", "edge", split_bundle, "-o", out)
    assert status == 0, error
    assert f"wrote {out}, the edge's half of {split_bundle}" in said
    assert f"next: vlacut run {out}" in said
    status, said, _ = vlacut("bundle", "edge", out, "-o", tmp_path / "again", "--json")
    found = json.loads(said)
    assert (status, found["half"]) == (0, "edge")
    assert found["bytes"] == found["of_bytes"] > 0
    status, said, _ = vlacut("inspect", out, "--json")
    assert json.loads(said)["half"] == "edge"
    assert json.loads(said)["files"] == {
        name: entry.nbytes for name, entry in read_bundle(out).files.items()
    }
    for words in (["verify", out], ["profile", out, "--side", "both", "-o", tmp_path / "c.json"]):
        status, _, error = vlacut(*words)
        assert (status, "is the edge's half" in error) == (2, True), error
    status, _, error = vlacut("bundle", "cloud", tmp_path / "none", "-o", out)
    assert status == 2
    assert "is no bundle" in error


def test_a_half_takes_the_place_of_a_bundle_and_of_nothing_else(
    split_bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    whole = read_bundle(split_bundle)
    for side in Side:
        assert write_half(whole, side, out).half is side
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter").write_text("dear")
    with pytest.raises(VlacutError, match="is a folder but no bundle"):
        write_half(whole, Side.EDGE, tmp_path / "mine")
    assert (tmp_path / "mine" / "letter").read_text() == "dear"
