"""Codecs are timed where they run, kept in the device's file, and priced by that."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.programs import looping_program

from vlacut.compiler.planning import plan_program
from vlacut.compiler.target import Target
from vlacut.errors import HardwareError
from vlacut.hardware import Device, Mode, Profile, Side, load_device, profile_text
from vlacut.hardware.codec_speed import JPEG, CodecSpeed, CodecSpeeds
from vlacut.measurement.calibration import codecs
from vlacut.measurement.calibration.calibrating import starting_device
from vlacut.measurement.calibration.codecs import Timed, fit_codecs, measure_codecs
from vlacut.measurement.calibration.machine import measured_machine
from vlacut.pricing import codec_cost, picture_cost
from vlacut.tensor import TensorSpec
from vlacut.tensor.codec import Codec, parse_codecs, takes

TRUE = CodecSpeeds(
    encode={
        "int8": CodecSpeed(2e-5, 3e-9, conversion_s={"float64": 1e-9, "float16": 0, "bfloat16": 0}),
        "zstd": CodecSpeed(1e-4, 8e-9, planar_s=2e-9),
        JPEG: CodecSpeed(3e-5, 2e-9, 5e-10, 1e-9),
    },
    decode={
        "int8": CodecSpeed(1e-5, 1e-9, conversion_s={"float64": 0, "float16": 3e-9, "bfloat16": 0}),
        "zstd": CodecSpeed(2e-5, 9e-9),
        JPEG: CodecSpeed(2e-5, 1e-9, 9e-10, 2e-9),
    },
    source="a test",
)


def machine(speeds: CodecSpeeds | None) -> Device:
    device = starting_device("here", "onnxruntime", measured_machine("", 2))
    figures = ("peak", "memory_bandwidth", "memory_bytes", "cache_bytes", "cache_bandwidth")
    source = dict.fromkeys((*figures, "multiprocessors"), "a test")
    return replace(device, codecs=speeds, source=source)


def written(path: Path, speeds: CodecSpeeds | None) -> str:
    device = machine(speeds)
    path.write_text(profile_text(Profile(device, "", {}, {device.stack.name: device.stack})))
    return str(path)


def test_the_fit_finds_the_speeds_of_which_the_times_are() -> None:
    device = machine(TRUE)
    timed = []
    for codec, spec in codecs._cases():
        name = JPEG if codec.quality is not None else codec.value
        if name not in TRUE.encode:
            continue
        nbytes = spec.nbytes // (4 + (codec.quality or 0) // 10)
        if codec.varies:
            ways = (
                picture_cost.encode_s(codec, spec, nbytes, device),
                picture_cost.decode_s(codec, spec, nbytes, device),
            )
        else:
            ways = (
                codec_cost.encode_s(codec, spec, device),
                codec_cost.decode_s(codec, spec, device),
            )
        timed.append(Timed(codec, spec, nbytes, *ways))
    found = fit_codecs(timed, "a test")
    for way, wanted in (("encode", TRUE.encode), ("decode", TRUE.decode)):
        for name, speed in wanted.items():
            mine = getattr(found, way)[name]
            for figure in ("call_s", "element_s", "bit_s", "planar_s"):
                close = math.isclose(
                    getattr(mine, figure), getattr(speed, figure), rel_tol=1e-3, abs_tol=1e-13
                )
                assert close, (way, name, figure)
            for dtype, seconds in speed.conversion_s.items():
                assert math.isclose(mine.conversion_s[dtype], seconds, rel_tol=1e-3, abs_tol=1e-13)


def test_every_codec_is_timed_here(tmp_path: Path) -> None:
    """Through the coders of the runtime; what was found comes back out of the file."""
    found = measure_codecs("here", turns=1)
    names = {JPEG if codec.quality is not None else codec.value for codec in parse_codecs("all")}
    assert set(found.encode) == set(found.decode) == names
    for speed in (*found.encode.values(), *found.decode.values()):
        assert speed.call_s + speed.element_s > 0
    assert set(found.encode["int8"].conversion_s) == {"float64", "float16", "bfloat16"}
    assert found.encode[JPEG].bit_s + found.encode[JPEG].element_s > 0
    assert load_device(written(tmp_path / "here.toml", found)).codecs == found


def test_a_library_that_is_missing_leaves_its_codecs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def installed(codec: Codec, spec: TensorSpec) -> bool:
        return not codec.varies and math.prod(spec.shape) < 1000

    monkeypatch.setattr(codecs, "_installed", installed)
    assert set(measure_codecs("here", turns=1).encode) == {"fp16", "bf16", "int8", "int4"}


@pytest.mark.parametrize("codec", [Codec.INT8, Codec.ZSTD, Codec.JPEG65])
def test_the_price_is_what_was_measured(codec: Codec) -> None:
    """A device whose codecs take ten times as long has ten times the price, whatever its memory;
    one without a measurement has a server's.
    """
    pixels = TensorSpec("x", "uint8", (3, 64, 64))
    spec = pixels if codec.varies else TensorSpec("x", "float64", (4, 64))
    assert takes(codec, spec)

    def priced(device: Device) -> tuple[float, float]:
        if codec.varies:
            ways = (picture_cost.encode_s, picture_cost.decode_s)
            return ways[0](codec, spec, 1000, device), ways[1](codec, spec, 1000, device)
        return codec_cost.encode_s(codec, spec, device), codec_cost.decode_s(codec, spec, device)

    fast, slow = machine(TRUE), machine(TRUE.scaled(10))
    assert priced(slow) == pytest.approx([10 * seconds for seconds in priced(fast)])
    assert priced(replace(fast, memory_bandwidth=1.0, cache_bandwidth=1.0)) == priced(fast)
    bare = machine(None)
    assert priced(bare) != priced(fast)
    others = replace(TRUE, encode={}, decode={})
    assert priced(machine(others)) == priced(bare)
    if codec is Codec.INT8:
        assert priced(fast)[0] == pytest.approx(2e-5 + 256 * 4e-9)


def test_a_plan_on_slow_processors_codes_less(tmp_path: Path) -> None:
    """The search sees it: what pays on a fast robot does not on one that is 1000 x slower."""
    name = {"int8": TRUE.encode["int8"]}, {"int8": TRUE.decode["int8"]}
    speeds = CodecSpeeds(*name, source="a test")
    taken = {}
    for factor in (1, 1000):
        edge = written(tmp_path / f"edge{factor}.toml", speeds.scaled(factor))
        target = Target(edge, "a100", "100kB/s,5ms", pin=("*=cloud",), codecs="int8")
        variant = plan_program(looping_program(), target).plan.variants[0]
        taken[factor] = variant.coded
        for crossing in variant.coded:
            assert crossing.source in Side
            assert crossing.edge_s > 0
    assert taken[1]
    assert not taken[1000]


def test_a_power_mode_with_a_slower_host_codes_slower() -> None:
    device = machine(TRUE)
    modes = {
        name: Mode(1e9, 1e9, host_clock, 2, "a test")
        for name, host_clock in (("fast", 2e9), ("slow", 1e9))
    }
    profile = Profile(device, "fast", modes, {device.stack.name: device.stack})
    assert profile.select("slow").codecs == TRUE.scaled(2)
    assert profile.select("fast").codecs == TRUE


def test_a_file_with_figures_that_are_none_is_refused(tmp_path: Path) -> None:
    good = Path(written(tmp_path / "here.toml", TRUE)).read_text()
    for wrong, said in (
        (good.replace("call_s = 2e-05", "call_s = -2e-05", 1), "seconds must be numbers from 0"),
        (good.replace("call_s = 2e-05", 'call_s = "2e-05"', 1), "call_s is"),
        (good.replace("codecs.decode.zstd", "codecs.decode.zst"), "both encode and decode"),
    ):
        assert wrong != good
        file = tmp_path / "wrong.toml"
        file.write_text(wrong)
        with pytest.raises(HardwareError, match=said):
            load_device(str(file))


def test_numbers_that_are_timed_are_of_their_type() -> None:
    for spec in dict.fromkeys(spec for _, spec in codecs._cases()):
        array = codecs._picture(spec) if spec.dtype == "uint8" else codecs._numbers(spec)
        assert spec.check(array) is array
        assert np.unique(array).size > 1
