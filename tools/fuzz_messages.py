"""Messages of other people's wires, as a fuzzer makes them: right, changed, or put together.

Who imports this instruments what it imports.
"""

from __future__ import annotations

import io
import struct
import zlib

import atheris
import msgpack
import numpy as np
from PIL import Image

from vlacut.integrations.lerobot.operations import OPERATIONS
from vlacut.integrations.lerobot.stand_ins import MODULES
from vlacut.integrations.openpi.packing import pack

STATE, CAMERA = "observation.state", "observation.images.front"
OBSERVATION = {STATE: np.zeros(3), CAMERA: np.zeros((4, 5, 3), np.uint8)}
RIGHT = pack({**OBSERVATION, "prompt": "pick"})
NAMES = (
    *((MODULES[0], name) for name in ("TimedObservation", "RemotePolicyConfig", "TimedAction")),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("builtins", "eval"),
    ("os", "system"),
)


def picture_files() -> list[bytes]:
    """Small pictures of each kind that is taken."""
    made = []
    grey = Image.fromarray(np.add.outer(np.arange(6) * 9, np.arange(8) * 5).astype(np.uint8))
    for mode, kind in (("RGB", "jpeg"), ("L", "jpeg"), ("P", "png"), ("RGBA", "png"), ("1", "png")):
        file = io.BytesIO()
        grey.convert(mode).save(file, kind)
        made.append(file.getvalue())
    return made


PICTURES = picture_files()
GROWS = [zlib.compress(bytes(size)) for size in (10, 10_000, 1 << 19, 1 << 20, 1 << 24)]
CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"zTXt", b"iTXt", b"iCCP", b"acTL", b"fcTL", b"fdAT")


def changed(right: bytes, source: atheris.FuzzedDataProvider) -> bytes:
    """A right message with some bytes changed, whole or cut."""
    made = bytearray(right)
    for _ in range(source.ConsumeIntInRange(1, 4)):
        made[source.ConsumeIntInRange(0, len(made) - 1)] = source.ConsumeIntInRange(0, 255)
    return bytes(made[: source.ConsumeIntInRange(0, len(made))])


def picture(source: atheris.FuzzedDataProvider) -> bytes:
    """Noise, a right picture with bytes changed, or a PNG with one more chunk, its sum right."""
    kind = source.ConsumeIntInRange(0, 2)
    if kind == 0:
        return bytes(source.ConsumeBytes(300))
    if kind == 1:
        return changed(source.PickValueInList(PICTURES), source)
    name = source.PickValueInList(list(CHUNKS))
    content = bytes(source.ConsumeBytes(60))
    if source.ConsumeBool():
        content += source.PickValueInList(GROWS)
    sums = struct.pack(">I", zlib.crc32(name + content))
    chunk = struct.pack(">I", len(content)) + name + content + sums
    whole: bytes = PICTURES[source.ConsumeIntInRange(2, len(PICTURES) - 1)]
    place = source.PickValueInList([8, whole.index(b"IDAT") - 4, whole.index(b"IEND") - 4])
    return bytes(whole[:place] + chunk + whole[place:])


def dialect_message(source: atheris.FuzzedDataProvider) -> str | bytes:
    """Of RoboArena's or vLLM-omni's clients: what a message says of itself, right or forged."""
    if source.ConsumeIntInRange(0, 9) == 0:
        return str(source.ConsumeUnicodeNoSurrogates(40))
    if source.ConsumeIntInRange(0, 3) == 0:
        return openpi_message(source)
    said: dict[str, object] = dict(OBSERVATION) if source.ConsumeBool() else {}
    words = ["infer", "reset", "kill", 3, None, b"infer", [1], {"a": 1}, np.array("reset")]
    for key in ("endpoint", "session_id"):
        if source.ConsumeBool():
            said[key] = source.PickValueInList([*words, source.ConsumeFloat(), np.zeros(2)])
    return changed(pack(said), source) if source.ConsumeBool() else pack(said)


def openpi_message(source: atheris.FuzzedDataProvider) -> bytes:
    """Noise, a right message with bytes changed, or an array whose header is forged."""
    kind = source.ConsumeIntInRange(0, 2)
    if kind == 0:
        return bytes(source.ConsumeBytes(300))
    if kind == 1:
        return changed(RIGHT, source)
    shape = [source.ConsumeIntInRange(-2, 2**40) for _ in range(source.ConsumeIntInRange(0, 5))]
    forged = {
        b"__ndarray__": True,
        b"data": source.ConsumeBytes(80),
        b"dtype": source.PickValueInList(["<f4", "|u1", "|O", "<U2", "|V8", "<f8", ">f2", "|b1"]),
        b"shape": shape,
    }
    packed: bytes = msgpack.packb({source.PickValueInList([STATE, CAMERA, "x"]): forged})
    return packed


def lerobot_pickle(source: atheris.FuzzedDataProvider) -> bytes:
    """Noise, or operations one behind the other, with arguments of any size."""
    if source.ConsumeBool():
        return bytes(source.ConsumeBytes(400))
    codes = sorted(OPERATIONS)
    pieces = [b"\x80\x04"]
    for _ in range(source.ConsumeIntInRange(1, 40)):
        code = source.PickValueInList(codes)
        pieces.append(operation(code, source))
    return b"".join([*pieces, b"."])


def operation(code: bytes, source: atheris.FuzzedDataProvider) -> bytes:
    """One with what belongs to it, or forged."""
    if code == b"c":
        module, name = source.PickValueInList(list(NAMES))
        return b"c" + f"{module}\n{name}\n".encode()
    sized = {b"X": "<I", b"\x8c": "<B", b"\x8d": "<Q", b"B": "<I", b"C": "<B", b"\x8e": "<Q"}
    if code in sized or code == b"\x96":
        form = sized.get(code, "<Q")
        words = [name for pair in NAMES for name in pair] + [STATE, CAMERA, "shape", "names"]
        data = str(source.PickValueInList(words)).encode()
        most = 2 ** (8 * struct.calcsize(form)) - 1
        right = source.ConsumeIntInRange(0, 7) > 0
        length = len(data) if right else source.ConsumeIntInRange(0, most)
        return code + struct.pack(form, length) + data
    wide = {b"J": 4, b"K": 1, b"M": 2, b"G": 8, b"q": 1, b"r": 4, b"h": 1, b"j": 4, b"\x95": 8}
    return code + bytes(source.ConsumeBytes(wide.get(code, 0)).ljust(wide.get(code, 0), b"\0"))
