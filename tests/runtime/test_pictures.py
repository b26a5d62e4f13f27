"""Coded pictures: there and back, damaged and hostile, over frames whose length varies."""

from __future__ import annotations

import io
import socket
import struct
import sys
import threading
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.allocating import Allocated
from support.coding import decoded, encoded, there_and_back
from support.deployments import DIGEST, served
from support.pictures import scene

from vlacut.errors import BundleError, CodecError, InputError, PeerUnable, WireError
from vlacut.hardware import Link, Side
from vlacut.plans.instructions import Run, Transfer
from vlacut.plans.plan import Part, Plan, Variant
from vlacut.pricing.coding import CodedCrossing
from vlacut.pricing.price import Certificate, Price
from vlacut.runtime.cloud.deployment import ready
from vlacut.runtime.cloud.server import Server
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.wire.codecs import coder_of
from vlacut.runtime.wire.connection import Connection
from vlacut.runtime.wire.layout import Layout
from vlacut.runtime.wire.pictures import PictureCoder
from vlacut.runtime.wire.protocol.envelope import checksum
from vlacut.runtime.wire.protocol.header import TENSORS, Header
from vlacut.runtime.wire.route import Due
from vlacut.tensor import TensorSpec
from vlacut.tensor.codec import Codec, coded_bytes, takes

OF_PICTURES = tuple(codec for codec in Codec if codec.varies)
SHAPES = (
    (64, 48, 3),
    (64, 48, 4),
    (2, 33, 47, 3),
    (2, 2, 40, 56, 4),
    (3, 64, 48),
    (2, 3, 33, 47),
    (2, 6, 40, 40),
)


def pictures(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    if shape[-1] in (3, 4):
        return scene(shape, seed)
    *rest, channels, height, width = shape
    return np.ascontiguousarray(np.moveaxis(scene((*rest, height, width, channels), seed), -1, -3))


@pytest.mark.parametrize("shape", SHAPES)
def test_zstd_loses_nothing_and_jpeg_little(shape: tuple[int, ...]) -> None:
    array = pictures(shape)
    smooth = encoded(Codec.ZSTD, array)
    assert smooth.size < 0.7 * array.nbytes
    np.testing.assert_array_equal(decoded(Codec.ZSTD, smooth, array), array)
    sizes = []
    for codec in (Codec.JPEG95, Codec.JPEG75, Codec.JPEG50):
        back = there_and_back(codec, array)
        assert np.abs(back.astype(int) - array).mean() < 6
        sizes.append(encoded(codec, array).size)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < smooth.size / 3


@given(st.sampled_from(SHAPES), st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_any_picture_comes_back(shape: tuple[int, ...], seed: int) -> None:
    """Noise, which does not get smaller, goes as it is: then JPEG loses nothing either."""
    array = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    np.testing.assert_array_equal(there_and_back(Codec.ZSTD, array), array)
    small = array.reshape(-1)[: 8 * 8 * 3].reshape(8, 8, 3)
    assert encoded(Codec.JPEG95, small).size == small.nbytes
    np.testing.assert_array_equal(there_and_back(Codec.JPEG95, small), small)


def test_a_picture_of_its_own_layout_is_the_same_jpeg() -> None:
    array = pictures((64, 48, 3))
    planes = np.ascontiguousarray(array.transpose(2, 0, 1))
    assert encoded(Codec.JPEG90, array).tobytes() == encoded(Codec.JPEG90, planes).tobytes()
    by_pillow = np.asarray(Image.open(io.BytesIO(encoded(Codec.JPEG90, array).tobytes())))
    assert np.abs(by_pillow.astype(int) - there_and_back(Codec.JPEG90, array)).max() <= 1


def test_what_they_take() -> None:
    for codec in OF_PICTURES:
        assert takes(codec, TensorSpec("x", "uint8", (480, 640, 3)))
        assert not takes(codec, TensorSpec("x", "float32", (480, 640, 3)))
        assert not takes(codec, TensorSpec("x", "uint8", (480, 640)))
        assert coded_bytes(codec, TensorSpec("x", "uint8", (480, 640, 3))) == 480 * 640 * 3
    tall = TensorSpec("x", "uint8", (200, 480, 640, 3))
    assert takes(Codec.ZSTD, tall)
    assert not takes(Codec.JPEG90, tall)


def pillow(size: tuple[int, int], **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(scene((*size, 3))).save(file, "JPEG", quality=90, **options)
    return file.getvalue()


def many_scans() -> bytes:
    """A right JPEG whose scan comes again and again."""
    data = pillow((64, 64))
    start = data.index(b"\xff\xda")
    return data[:-2] + data[start : start + 40] * 50 + data[-2:]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is no JPEG"),
        (b"\xff\xd8", "header is damaged"),
        (b"GIF89a" + bytes(40), "is no JPEG"),
        (pillow((64, 64))[:-200], "is damaged"),
        (pillow((64, 64))[:100], "header is damaged"),
        (pillow((64, 72)), "not of 64 x 64 pixels of 3 bytes"),
        (pillow((64, 64), progressive=True), "not plain: it has a segment 0xc2"),
        (many_scans(), "several scans"),
        (pillow((64, 64), exif=b"Exif\0\0" + bytes(60)), "not plain: it has a segment 0xe1"),
    ],
)
def test_what_is_no_such_jpeg_is_one_error(data: bytes, said: str) -> None:
    spec = TensorSpec("top", "uint8", (64, 64, 3))
    coder = coder_of(Codec.JPEG90, spec)
    out = np.empty(spec.shape, np.uint8)
    with pytest.raises(CodecError, match=f"^top: jpeg90: .*{said}"):
        coder.decode(np.frombuffer(data, np.uint8), out)


def bomb(height: int, width: int) -> bytes:
    """A small JPEG whose header says that it is large."""
    data = bytearray(pillow((64, 64)))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def zstd_bombs() -> list[bytes]:
    from backports import zstd

    parameter = zstd.CompressionParameter
    wide = {parameter.window_log: 27, parameter.compression_level: 1}
    zeros = bytes(2**23)
    return [
        zstd.compress(zeros),
        zstd.compress(zeros, options=wide),
        zstd.compress(bytes(64 * 64 * 3)) * 3,
        zstd.compress(bytes(64 * 64 * 3 - 1)),
        zstd.compress(bytes(64 * 64 * 3))[:-1],
        b"\x28\xb5\x2f\xfd" + b"\xff" * 30,
    ]


def test_bombs_allocate_nothing() -> None:
    spec = TensorSpec("top", "uint8", (64, 64, 3))
    cases = [(Codec.JPEG90, bomb(65000, 65000)), (Codec.JPEG90, bomb(64, 65))]
    cases += [(Codec.ZSTD, data) for data in zstd_bombs()]
    coders = {codec: coder_of(codec, spec) for codec in (Codec.JPEG90, Codec.ZSTD)}
    out = np.empty(spec.shape, np.uint8)
    for codec, data in cases:
        coded, allocated = np.frombuffer(data, np.uint8), Allocated()
        for _ in range(3):
            with allocated.measured(), pytest.raises(CodecError):
                coders[codec].decode(coded, out)
        assert allocated.most < 2 * len(data) + 100_000


@given(st.sampled_from((Codec.ZSTD, Codec.JPEG90)), st.data())
@settings(max_examples=200, deadline=None)
def test_damaged_bytes_decode_or_are_a_codec_error(codec: Codec, data: st.DataObject) -> None:
    array = pictures((24, 40, 3))
    spec = TensorSpec("x", "uint8", array.shape)
    coded = bytearray(encoded(codec, array).tobytes())
    for _ in range(data.draw(st.integers(1, 4))):
        coded[data.draw(st.integers(0, len(coded) - 1))] = data.draw(st.integers(0, 255))
    kept = coded[: data.draw(st.integers(0, len(coded)))] if data.draw(st.booleans()) else coded
    out = np.empty_like(array)
    said = ""
    try:
        coder_of(codec, spec).decode(np.frombuffer(bytes(kept), np.uint8), out)
    except CodecError as error:
        said = str(error)
    assert "\n" not in said


STATE, TOP, WRIST = (
    TensorSpec("state", "float32", (1, 7)),
    TensorSpec("top", "uint8", (64, 64, 3)),
    TensorSpec("wrist", "uint8", (1, 3, 48, 40)),
)
CODECS = (Codec.JPEG90, Codec.FP16, Codec.ZSTD)


def camera_plan() -> Plan:
    """Everything in the cloud: two pictures up, of two codecs, and a state between them."""
    action = TensorSpec("policy/action", "float32", (1, 7))
    keys = ("top", "state", "wrist")
    part = Part(
        name="policy.0",
        phase="policy",
        side=Side.CLOUD,
        inputs=keys,
        outputs=(action.name,),
        weights=(),
        weight_bytes=0,
        seconds=0.0,
        saves_s=0.0,
        label="",
        digest="",
    )
    schedule = (
        Transfer(keys, Side.EDGE, codecs=CODECS),
        Run(part.name),
        Transfer((action.name,), Side.CLOUD),
    )
    known = tuple(
        CodedCrossing(
            tensor=spec.name,
            source=Side.EDGE,
            codec=codec,
            raw_bytes=spec.nbytes,
            coded_bytes=spec.nbytes // 4,
            edge_s=0.0,
            cloud_s=0.0,
        )
        for spec, codec in zip((TOP, STATE, WRIST), CODECS, strict=True)
    )
    seconds = dict.fromkeys(("edge_s", "cloud_s", "up_s", "down_s", "hop_s"), 0.0)
    counts = ("bytes_up", "bytes_down", "crossings", "hops")
    counts += ("edge_weight_bytes", "cloud_weight_bytes")
    return Plan(
        program="cameras",
        edge="jetson-agx-orin",
        cloud="a100",
        link=Link(1e6, 1e6, 0.01),
        inputs=(TOP, STATE, WRIST),
        outputs={"action": action.name},
        tensors=(TOP, STATE, WRIST, action),
        parts=(part,),
        variants=(
            Variant("chosen", schedule, Price(**seconds, **dict.fromkeys(counts, 0)), known),
        ),
        strategies=(),
        certificate=Certificate("latency", 0.0, 0.0, ""),
    )


def observed(seed: int = 0) -> dict[str, np.ndarray]:
    return {
        "top": pictures(TOP.shape, seed),
        "wrist": pictures(WRIST.shape, seed + 1),
        "state": np.random.default_rng(seed).standard_normal((1, 7)).astype(np.float32),
    }


class Summing:
    """What the cloud saw, as numbers that tell any byte of it apart."""

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        sums = [inputs[key].astype(np.float64).sum() for key in ("top", "state", "wrist")]
        steep = [np.arange(inputs[key].size) @ inputs[key].reshape(-1) for key in ("top", "wrist")]
        return {"policy/action": np.array([[*sums, *steep, 0, 0]], np.float32)}


def expected(seen: Mapping[str, np.ndarray]) -> np.ndarray:
    """The action on what arrives."""
    arrived = {
        spec.name: there_and_back(codec, seen[spec.name], spec.dtype)
        for spec, codec in zip((TOP, STATE, WRIST), CODECS, strict=True)
    }
    return Summing().run(arrived)["policy/action"]


@pytest.mark.parametrize("checked", [False, True])
def test_pictures_cross_as_they_are_coded(checked: bool) -> None:
    plan = camera_plan()
    with served(plan, {"policy.0": Summing()}, timeout=20.0) as server:
        session = EdgeSession(plan, DIGEST, {}, server.address, checked=checked)
        for seed in range(4):
            seen = observed(seed)
            np.testing.assert_array_equal(session.step(seen)["action"], expected(seen))
            coded = [encoded(*pair) for pair in ((Codec.JPEG90, seen["top"]),)]
            coded.append(encoded(Codec.ZSTD, seen["wrist"]))
            assert session.last.bytes_up == sum(one.size + 4 for one in coded) + 2 * 7
            assert session.last.cloud_codec_s > 0
        session.close()
    assert server.counts.steps == 4


def test_what_does_not_get_smaller_crosses_too() -> None:
    noise = np.random.default_rng(0).integers(0, 256, TOP.shape, np.uint8)
    seen = observed() | {"top": noise}
    plan = camera_plan()
    with served(plan, {"policy.0": Summing()}, timeout=20.0) as server:
        session = EdgeSession(plan, DIGEST, {}, server.address)
        np.testing.assert_array_equal(session.step(seen)["action"], expected(seen))
        session.close()


def test_a_damaged_picture_costs_its_step_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One clear error, and the session goes on."""
    plan, seen = camera_plan(), observed()
    right = PictureCoder.encode

    def spoilt(coder: PictureCoder, array: np.ndarray, out: np.ndarray) -> int:
        size = right(coder, array, out)
        out[size // 2 : size] = 0
        return size

    with served(plan, {"policy.0": Summing()}, timeout=20.0) as server:
        session = EdgeSession(plan, DIGEST, {}, server.address)
        session.step(seen)
        monkeypatch.setattr(PictureCoder, "encode", spoilt)
        with pytest.raises(
            PeerUnable, match="the other side failed: top: jpeg90: the JPEG is dama"
        ):
            session.step(seen)
        monkeypatch.undo()
        np.testing.assert_array_equal(session.step(seen)["action"], expected(seen))
        session.close()
    assert server.counts.events["failed"] == 1


def frames_of(lengths: list[int], data: bytes, checked: bool) -> bytes:
    """A frame of the plan's first transfer, whatever it says."""
    payload = [np.array(lengths, ">u4"), np.zeros(14, np.uint8), np.frombuffer(data, np.uint8)]
    size = sum(array.nbytes for array in payload)
    header = Header(TENSORS, 0, 0, 0, 1, size)
    sealed = header.pack(checksum(header, payload if checked else ()))
    return sealed + b"".join(array.tobytes() for array in payload)


@pytest.mark.parametrize("checked", [False, True])
@pytest.mark.parametrize(
    ("lengths", "held", "said"),
    [
        ([100, 50], 149, r"pictures of \[100, 50\] bytes in 149"),
        ([100, 50], 151, r"pictures of \[100, 50\] bytes in 151"),
        ([2**32 - 1, 151], 150, "bytes in 150"),
        ([TOP.nbytes + 1, 0], TOP.nbytes + 1, f"bytes in {TOP.nbytes + 1}"),
        ([TOP.nbytes, WRIST.nbytes], TOP.nbytes + WRIST.nbytes + 1, "which has 22 to 18070"),
        ([], 0, "which has 22 to 18070"),
    ],
)
def test_lengths_are_bounded_by_the_plan(
    lengths: list[int], held: int, said: str, checked: bool
) -> None:
    data, allocated = frames_of(lengths, bytes(held), checked), Allocated()
    for _ in range(3):
        mine, other = socket.socketpair()
        layout = Layout(camera_plan(), Side.CLOUD)
        with other, closing(Connection(mine, layout, 20.0, checked=checked)) as connection:
            other.sendall(data)
            with allocated.measured(), pytest.raises(WireError, match=said):
                connection.receive()
    assert allocated.most < 200_000


def test_a_picture_comes_in_any_pieces() -> None:
    """Byte by byte, and behind a frame that was expected to be another."""
    seen, plan = observed(), camera_plan()
    sizes = [encoded(Codec.JPEG90, seen["top"]), encoded(Codec.ZSTD, seen["wrist"])]
    data = frames_of([one.size for one in sizes], b"".join(map(bytes, sizes)), True)
    mine, other = socket.socketpair()
    with other:
        connection = Connection(mine, Layout(plan, Side.CLOUD), 5.0)
        sender = threading.Thread(
            target=lambda: [other.sendall(data[at : at + 1]) for at in range(len(data))]
        )
        sender.start()
        frame = connection.receive(1, Due(0, 0, 0))
        sender.join()
        assert frame.nbytes == len(data)
        top, _, wrist = frame.room.decoded()
        np.testing.assert_array_equal(top, there_and_back(Codec.JPEG90, seen["top"]))
        np.testing.assert_array_equal(wrist, seen["wrist"])
        connection.close()


def test_a_plan_that_knows_nothing_of_a_coded_picture_is_illegal() -> None:
    plan = camera_plan()
    (variant,) = plan.variants
    with pytest.raises(BundleError, match="nothing is known of top as jpeg90"):
        replace(plan, variants=(replace(variant, coded=variant.coded[1:]),))


@pytest.mark.parametrize("missing", ["simplejpeg", "backports.zstd"])
def test_a_missing_library_is_one_line_at_load(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setitem(sys.modules, "compression.zstd", None)
    said = rf"need {missing}, which is not here: pip install 'vlacut\[pictures\]'"
    plan = camera_plan()
    with pytest.raises(InputError, match=said):
        Server([ready(plan, DIGEST, {})])
    with pytest.raises(InputError, match=said):
        EdgeSession(plan, DIGEST, {}, ("127.0.0.1", 1))
