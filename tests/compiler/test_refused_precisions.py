"""A precision that a back end of the compile lacks is left out; the others stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.precisions import policy, slow_memory

import vlacut
from vlacut.bundle.opened import Bundle
from vlacut.bundle.reading import open_bundle
from vlacut.errors import BackendError, InputError
from vlacut.runtime.verification import verify_bundle

ON_EDGE = ("*=edge",)


def compiled(folder: Path, backend: str, **asked: Any) -> Bundle:
    """The policy for a slow robot with an Orin's GPU."""
    target: dict[str, Any] = {"edge": slow_memory(folder), "cloud": "a100", "link": "1MB/s,20ms"}
    target |= {"pin": ON_EDGE, "rounding_method": "rtn", "model_check": False, **asked}
    out = folder / "policy.vlacut"
    return vlacut.compile(policy(folder), **target, backend=backend, out=out)


@pytest.mark.parametrize(
    ("backend", "precisions", "lacks", "why"),
    [
        ("tensorrt", "int4,float16", "int4", "needs opset 21, the TensorRT of the recipe"),
        ("tensorrt", "float8e4m3fn,int8", "float8e4m3fn", "which GPUs have from sm_89 on"),
        ("onnxruntime", "bfloat16,int8", "bfloat16", "ONNX Runtime has no CPU kernel"),
        ("torch", "int4,float16", "int4", "is not known as an operator of PyTorch"),
    ],
)
def test_it_is_left_out_and_said(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    backend: str,
    precisions: str,
    lacks: str,
    why: str,
) -> None:
    bundle = compiled(tmp_path, backend, precisions=f"float,{precisions}")
    (other,) = {*precisions.split(",")} - {lacks}
    assert [one.precision for one in bundle.plan.variants] == ["", other]
    (line,) = open_bundle(bundle.root).plan.left_out
    assert line.startswith(f"chosen@{lacks} is left out: {backend} cannot run encode.0 on ")
    assert why in line
    assert line in caplog.text
    assert not any(lacks in name for part in bundle.plan.parts for name in part.weights)
    if backend == "onnxruntime":
        assert all(one.passed for one in verify_bundle(bundle))


def test_each_side_has_what_its_own_back_end_runs(tmp_path: Path) -> None:
    """The robot's TensorRT has no 4 bits, the server's ONNX Runtime does."""
    bundle = compiled(
        tmp_path,
        "edge=tensorrt,cloud=onnxruntime",
        precisions="int4,cloud=int4",
        cloud=slow_memory(tmp_path),
        pin=("encode*=edge", "denoise*=cloud"),
    )
    assert [one.name for one in bundle.plan.variants] == ["chosen", "chosen@cloud=int4"]
    (line,) = bundle.plan.left_out
    assert line.startswith("chosen@int4 is left out: tensorrt cannot run encode.0")


def test_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="no variant would run: not chosen@int4: tensorrt") as no:
        compiled(tmp_path, "tensorrt", precisions="float,int4,w4a16")
    assert "nor 1 others" not in str(no.value)
    assert "nor another, for the like; leave --precisions out" in str(no.value)
    assert not (tmp_path / "policy.vlacut").exists()


def test_what_is_asked_for_alone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="needs opset 21"):
        compiled(tmp_path, "tensorrt", quantise="int4")
    with pytest.raises(InputError, match="'int5' is no precision"):
        compiled(tmp_path, "tensorrt", precisions="int5,float16")
