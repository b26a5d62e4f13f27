"""The node of ROS 2 on a fake of the few calls that it makes; `test_ros2_node.py` has real ROS."""

from __future__ import annotations

import array
import io
import struct
import time
import tracemalloc
import zlib
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.fakes.ros import Message, Node, Stamp, install
from support.lerobot_wire import Played

from vlacut.errors import InputError, ObservationError
from vlacut.integrations.ros2 import __main__ as command
from vlacut.integrations.ros2 import node as node_module
from vlacut.integrations.ros2.messages import array_of
from vlacut.integrations.ros2.node import run_node
from vlacut.integrations.ros2.wiring import Source, Wiring, read_wiring

MAP = """
bundle: policy.vlacut
rate_hz: 10
max_age_s: 0.5
inputs:
  observation.images.front: {topic: /front, type: sensor_msgs/msg/Image}
  observation.state:
    {topic: /joints, type: sensor_msgs/msg/JointState, field: position, names: [a, b]}
output: {topic: /arm, names: [a, b], period_s: 0.25}
diagnostics: /diagnostics
"""
IMAGE = Source("/front", "sensor_msgs/msg/Image")
JOINTS = Source("/joints", "sensor_msgs/msg/JointState", "position", ("a", "b"))
SECOND = 1_000_000_000
MOST = 1 << 16  # bytes of a picture


@pytest.fixture
def wiring(tmp_path: Path) -> Wiring:
    (tmp_path / "map.yaml").write_text(MAP)
    return read_wiring(tmp_path / "map.yaml")


def picture(at_ns: int = 0, **values: Any) -> Message:
    pixels = np.arange(8 * 40, dtype=np.uint8)  # 10 pixels of 3 bytes, and 10 bytes of padding
    said = {"encoding": "bgr8", "height": 8, "width": 10, "step": 40, "data": pixels.tobytes()}
    return Message(header=SimpleNamespace(stamp=Stamp(at_ns)), **{**said, **values})


def joints(at_ns: int = 0, **values: Any) -> Message:
    said = {"name": ["b", "other", "a"], "position": [2.0, 9.0, 1.0]}
    return Message(header=SimpleNamespace(stamp=Stamp(at_ns)), **{**said, **values})


def run(monkeypatch: pytest.MonkeyPatch, wiring: Wiring, policy: Any, play: Any) -> Node:
    monkeypatch.setattr(node_module, "OpenpiPolicy", lambda *_: policy)
    node = install(monkeypatch, play)
    run_node(wiring, SimpleNamespace())
    return node


def test_the_newest_of_each_topic_becomes_a_trajectory(
    monkeypatch: pytest.MonkeyPatch, wiring: Wiring
) -> None:
    policy = Played()

    def play(node: Node) -> None:
        node.now_ns = 5 * SECOND + SECOND // 10
        node.heard["/front"](picture(at_ns=4 * SECOND))
        node.heard["/front"](picture(at_ns=5 * SECOND + 7))
        node.heard["/joints"](joints(at_ns=5 * SECOND))
        node.tick()

    node = run(monkeypatch, wiring, policy, play)
    assert (node.period_s, node.depth, node.destroyed) == (0.1, 1, True)
    [made] = node.sent["/arm"]
    assert made.joint_names == ["a", "b"]
    assert [one.positions for one in made.points] == [[1 + k, 2 + k] for k in range(4)]
    due = [one.time_from_start for one in made.points]
    assert [(one.sec, one.nanosec) for one in due] == [
        (0, SECOND // 4),
        (0, SECOND // 2),
        (0, 3 * SECOND // 4),
        (1, 0),
    ]
    assert (made.header.stamp.sec, made.header.stamp.nanosec) == (5, 0)  # of the oldest
    assert policy.captured_ns is not None
    assert time.perf_counter_ns() - policy.captured_ns >= SECOND // 10
    rows = np.arange(320, dtype=np.uint8).reshape(8, 40)[:, :30].reshape(8, 10, 3)
    np.testing.assert_array_equal(policy.seen, rows[:, :, ::-1])
    [said] = node.sent["/diagnostics"]
    [status] = said.status
    assert (status.level, status.message) == (b"\x00", "running")
    assert {one.key for one in status.values} == {"stale", "failed", "edge_ms"}


@pytest.mark.parametrize(
    ("heard", "level", "said"),
    [
        ({}, 1, "nothing was heard of observation.images.front (/front), observation.state (/joi"),
        ({"/front": picture(9 * SECOND), "/joints": joints(SECOND)}, 1, "state is 9.00 s old"),
        ({"/front": picture(encoding="yuv"), "/joints": joints()}, 2, "pictures of 'yuv' are not"),
        ({"/front": picture(), "/joints": joints(name=["a", "c", "d"])}, 2, "joint 'b'"),
        ({"/front": picture(height=4), "/joints": joints()}, 2, "shape is [4, 10, 3]"),
    ],
)
def test_without_a_step_nothing_is_commanded_and_diagnostics_say_why(
    monkeypatch: pytest.MonkeyPatch, wiring: Wiring, heard: Any, level: int, said: str
) -> None:
    def play(node: Node) -> None:
        node.now_ns = 10 * SECOND
        for topic, message in heard.items():
            node.heard[topic](message)
        node.tick()

    node = run(monkeypatch, wiring, Played(), play)
    assert not node.sent["/arm"]
    [status] = node.sent["/diagnostics"][0].status
    assert status.level == bytes([level])
    assert said in status.message


def test_a_stamp_of_the_future_does_not_hide_a_topic_that_fell_silent(
    monkeypatch: pytest.MonkeyPatch, wiring: Wiring
) -> None:
    def play(node: Node) -> None:
        node.now_ns = 10 * SECOND
        node.heard["/joints"](joints(99 * SECOND))
        node.now_ns = 20 * SECOND
        node.heard["/front"](picture(20 * SECOND))
        node.tick()

    node = run(monkeypatch, wiring, Played(), play)
    assert not node.sent["/arm"]
    assert "state is 10.00 s old" in node.sent["/diagnostics"][0].status[0].message


def test_ros_is_told_what_is_said_to_it(
    monkeypatch: pytest.MonkeyPatch, wiring: Wiring, tmp_path: Path
) -> None:
    node = install(monkeypatch, lambda node: None)
    monkeypatch.setattr(node_module, "OpenpiPolicy", lambda *_: Played())
    monkeypatch.setattr(command.vlacut, "connect", lambda *_, **__: nullcontext())
    words = ["--ros-args", "-r", "__ns:=/left", "--", "--config", str(tmp_path / "map.yaml")]
    assert command.main(words) == 0
    assert node.ros_args == ["--ros-args", "-r", "__ns:=/left"]
    with pytest.raises(SystemExit):
        command.main([*words, "--confg", "x"])


def test_a_late_step_leaves_the_commands_that_the_arm_has(
    monkeypatch: pytest.MonkeyPatch, wiring: Wiring
) -> None:
    policy = Played()
    policy.stale = True

    def play(node: Node) -> None:
        node.heard["/front"](picture())
        node.heard["/joints"](joints())
        node.tick()

    node = run(monkeypatch, wiring, policy, play)
    assert not node.sent["/arm"]
    assert "earlier commands hold" in node.sent["/diagnostics"][0].status[0].message


def test_numbers_are_at_a_field_s_path() -> None:
    source = Source("/pose", "geometry_msgs/msg/PoseStamped", "pose.position.x")
    message = SimpleNamespace(pose=SimpleNamespace(position=SimpleNamespace(x=3.0)))
    assert array_of("x", source, message, MOST) == 3.0
    assert array_of(
        "x", Source("/a", "std_msgs/msg/Float64MultiArray"), Message(data=[1, 2]), MOST
    ).shape
    with pytest.raises(ObservationError, match="x: a std_msgs/msg/String has no 'data'"):
        array_of("x", Source("/a", "std_msgs/msg/String"), SimpleNamespace(), MOST)
    with pytest.raises(ObservationError, match="is no number"):
        array_of("x", Source("/a", "std_msgs/msg/String"), SimpleNamespace(data="up"), MOST)


@pytest.mark.parametrize(("encoding", "width"), [("rgb8", 3), ("bgra8", 4), ("mono8", 1)])
def test_a_picture_is_red_green_and_blue(encoding: str, width: int) -> None:
    pixels = np.arange(2 * width, dtype=np.uint8)
    said = {"encoding": encoding, "height": 1, "width": 2, "step": 2 * width}
    found = array_of("x", IMAGE, Message(data=pixels.tobytes(), **said), MOST)
    order = {"rgb8": [0, 1, 2], "bgra8": [2, 1, 0], "mono8": [0]}[encoding]
    np.testing.assert_array_equal(found, pixels.reshape(1, 2, width)[:, :, order])
    with pytest.raises(ObservationError, match="with rows of"):
        array_of("x", IMAGE, Message(data=b"\0", **said), MOST)


COMPRESSED = Source("/front", "sensor_msgs/msg/CompressedImage")


def compressed(mode: str, kind: str) -> tuple[np.ndarray, bytes]:
    """A picture that rises to the right and to the bottom, and its file."""
    ramp = np.add.outer(np.arange(16) * 8, np.arange(24) * 4).astype(np.uint8)
    channels = {"L": 1, "RGB": 3, "RGBA": 4}[mode]
    pixels = np.stack([ramp // (place + 1) for place in range(channels)], axis=-1)
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if channels == 1 else pixels, mode).save(file, kind, quality=95)
    return pixels, file.getvalue()


@pytest.mark.parametrize(("mode", "kind"), [("RGB", "jpeg"), ("L", "jpeg"), ("RGBA", "png")])
def test_a_compressed_picture_is_decoded(mode: str, kind: str) -> None:
    pixels, data = compressed(mode, kind)
    message = Message(format=f"rgb8; {kind} compressed bgr8", data=array.array("B", data))
    found = array_of("x", COMPRESSED, message, MOST)
    wanted = pixels[..., :3]
    assert (found.dtype, found.shape) == (np.uint8, wanted.shape)
    assert np.abs(found.astype(int) - wanted).max() <= (0 if kind == "png" else 8)
    with pytest.raises(ObservationError, match="16 x 24 is more than the bundle takes"):
        array_of("x", COMPRESSED, message, 100)


def test_a_palette_is_bounded_by_the_colours_that_it_becomes() -> None:
    file = io.BytesIO()
    Image.fromarray(compressed("L", "png")[0][..., 0]).convert("P").save(file, "png")
    message = Message(data=file.getvalue())
    size = 16 * 24 * 3
    assert array_of("x", COMPRESSED, message, size).nbytes == size
    with pytest.raises(ObservationError, match="16 x 24 is more than the bundle takes"):
        array_of("x", COMPRESSED, message, size - 1)


def test_a_picture_of_depths_is_refused() -> None:
    file = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(file, "png")
    with pytest.raises(ObservationError, match="depths are no bytes"):
        array_of("x", COMPRESSED, Message(data=file.getvalue()), MOST)


def with_chunk(kind: bytes, content: bytes, before: bytes) -> bytes:
    """A PNG with one more chunk before another."""
    data = compressed("RGB", "png")[1]
    sums = struct.pack(">I", zlib.crc32(kind + content))
    chunk = struct.pack(">I", len(content)) + kind + content + sums
    place = data.index(before) - 4
    return data[:place] + chunk + data[place:]


@pytest.mark.parametrize("kind", [b"gAMA", b"tRNS", b"fcTL"])
def test_a_chunk_of_a_png_that_ends_too_early_is_an_error(kind: bytes) -> None:
    data = with_chunk(kind, b"a\0", b"IEND")
    with pytest.raises(ObservationError, match="are no JPEG and no PNG"):
        array_of("x", COMPRESSED, Message(data=data), MOST)


@pytest.mark.parametrize(
    ("kind", "head"), [(b"zTXt", b"a\0\0"), (b"iTXt", b"a\0\1\0\0\0"), (b"iCCP", b"a\0\0")]
)
def test_a_chunk_of_a_png_that_grows_is_not_unpacked(kind: bytes, head: bytes) -> None:
    data = with_chunk(kind, head + zlib.compress(bytes(900_000), 9), b"IDAT")
    message = Message(data=data)
    array_of("x", COMPRESSED, Message(data=compressed("RGB", "png")[1]), MOST)  # modules are loaded
    tracemalloc.start()
    try:
        found = array_of("x", COMPRESSED, message, MOST)
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(found, compressed("RGB", "png")[0])
    assert taken < 200_000


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["jpeg", "png"]),
    at=st.integers(0, 10_000),
    turned=st.integers(1, 255),
    cut=st.booleans(),
)
def test_altered_bytes_are_a_picture_or_an_error(
    kind: str, at: int, turned: int, cut: bool
) -> None:
    data = bytearray(compressed("RGB", kind)[1])
    at %= len(data)
    data[at] ^= turned
    try:
        found = array_of("x", COMPRESSED, Message(data=bytes(data[:at] if cut else data)), MOST)
    except ObservationError:
        return
    assert found.nbytes <= MOST


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("rate_hz", "rate", "no setting 'rate'; did you mean rate_hz"),
        ("rate_hz: 10", "rate_hz: 0", "no step would be made"),
        ("rate_hz: 10", "rate_hz: .nan", "must be a number"),
        ("topic: /front", "topc: /front", "observation.images.front: no setting 'topc'"),
        ("sensor_msgs/msg/Image", "Image", "type 'Image' is none"),
        ("names: [a, b], period_s", "names: [1], period_s", "names is no list of joints"),
        ("inputs:", "inputs: 3\nx:", "no setting 'x'"),
        ("bundle: policy.vlacut", "", "bundle is None"),
        ("bundle", "{", "cannot be read as YAML"),
        ("policy.vlacut", "2026-02-32", "cannot be read as YAML"),
        ("policy.vlacut", "!!bool x", "cannot be read as YAML"),
        ("rate_hz: 10", f"rate_hz: 1{'0' * 400}", "must be a number from 0 on"),
        ("rate_hz: 10", "seed: 1.5", "seed is 1.5, and must be a whole number"),
        ("period_s: 0.25", "period_s: 0", "all commands would be due at once"),
        ("names: [a, b], period_s", "names: [a, a], period_s", "names has one joint twice"),
        ("type: sensor_msgs/msg/Image", "type: sensor_msgs/msg/Image, span: [0, .nan]", "span is"),
        ("rate_hz: 10", f"rate_hz: &x 10\nseed: [{'*x, ' * 17}]", "more than 16 aliases"),
    ],
)
def test_a_file_that_is_wrong_says_where(tmp_path: Path, old: str, new: str, said: str) -> None:
    (tmp_path / "map.yaml").write_text(MAP.replace(old, new))
    with pytest.raises(InputError) as refused:
        read_wiring(tmp_path / "map.yaml")
    assert said in str(refused.value)


def test_joints_must_be_as_many_as_a_command_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "map.yaml").write_text(MAP.replace("names: [a, b], period", "names: [a], period"))
    with pytest.raises(InputError, match="1 joints are named, and a command of the bundle has 2"):
        run(monkeypatch, read_wiring(tmp_path / "map.yaml"), Played(), lambda node: None)


def test_the_command_says_what_is_wrong_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["--config", str(tmp_path / "none.yaml")]) == 1
    assert "none.yaml: cannot be read as YAML" in capsys.readouterr().err


def test_without_ros_the_error_says_what_to_source(wiring: Wiring) -> None:
    with pytest.raises(InputError, match=r"needs rclpy, which ROS 2 has: source its setup\.bash"):
        run_node(wiring, SimpleNamespace())
