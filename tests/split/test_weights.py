"""Weights: from safetensors files to the store, in the model's type or converted in the open."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from vlacut.bundle.reading import open_bundle
from vlacut.compiler.driver import compile_program
from vlacut.compiler.target import Target
from vlacut.errors import InputError, ModelError
from vlacut.frontends.checkpoint import load_weights, open_checkpoint
from vlacut.frontends.torch import program_from_module
from vlacut.ir.program import Program
from vlacut.runtime.verification import verify_bundle

TARGET = Target("jetson-agx-orin", "a100", "100GB/s")


class Head(nn.Module):
    """Two layers, wide enough that their weights are stored as files."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(64, 64)
        self.second = nn.Linear(64, 64)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.second(torch.relu(self.first(image))))


def on_shapes(dtype: torch.dtype = torch.float32) -> Program:
    with torch.device("meta"):
        module = Head().to(dtype)
    return program_from_module(module, (torch.empty(1, 64, dtype=dtype, device="meta"),))


def checkpoint(dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {name: tensor.to(dtype) for name, tensor in Head().state_dict().items()}


def shards(folder: Path) -> Path:
    tensors = checkpoint()
    names = {name: f"model-{index % 2}.safetensors" for index, name in enumerate(sorted(tensors))}
    for file in set(names.values()):
        part = {name: tensors[name] for name in tensors if names[name] == file}
        safetensors.torch.save_file(part, folder / file)
    index = json.dumps({"metadata": {}, "weight_map": names})
    (folder / "model.safetensors.index.json").write_text(index)
    return folder


@pytest.mark.parametrize("form", ["file", "folder", "shards"])
def test_a_checkpoint_gives_a_program_its_numbers(form: str, tmp_path: Path) -> None:
    safetensors.torch.save_file(checkpoint(), tmp_path / "model.safetensors")
    (tmp_path / "sharded").mkdir()
    sources = {
        "file": tmp_path / "model.safetensors",
        "folder": tmp_path,
        "shards": shards(tmp_path / "sharded"),
    }
    program = on_shapes()
    assert load_weights(program, open_checkpoint([sources[form]])) == ""
    _, bundle = compile_program(program, TARGET, tmp_path / "out")
    module = Head()
    module.load_state_dict(checkpoint())
    image = torch.from_numpy(bundle.golden("observation")["image"])
    expected = module(image).detach().numpy()
    np.testing.assert_allclose(bundle.golden("action")["output_0"], expected, atol=1e-6)


def test_a_checkpoint_that_does_not_fit_is_listed(tmp_path: Path) -> None:
    tensors = checkpoint()
    tensors["first.weight"] = torch.zeros(64, 63)
    tensors["third.weight"] = tensors.pop("second.bias")
    safetensors.torch.save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ModelError) as caught:
        load_weights(on_shapes(), open_checkpoint([tmp_path]))
    for piece in (
        "1 missing: second.bias",
        "1 misshapen: first.weight: float32[64, 63], must be float32[64, 64]",
        "1 unexpected: third.weight",
    ):
        assert piece in str(caught.value)


def header(shape: str) -> bytes:
    """A file whose one tensor has this as its shape."""
    text = f'{{"a": {{"dtype": "F32", "shape": {shape}, "data_offsets": [0, 16]}}}}'
    return len(text).to_bytes(8, "little") + text.encode() + bytes(64)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ('{"weight_map": {"a": "absent.safetensors"}}', "1 of 1 shards are missing: absent"),
        ('{"weight_map": {"a": "../a.safetensors"}}', "outside of its folder"),
        ('{"weight_map": {"a": ".."}}', "outside of its folder"),
        ('{"weight_map": {"a": ""}}', "outside of its folder"),
        ('{"weight_map": {"a": null}}', "is no index of shards"),
        ('{"weight_map": {}}', "names no shard"),
        ('{"weight_map": ' + "[" * 10**5, "is no index of shards"),
    ],
)
def test_an_index_that_is_wrong_is_named(index: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ModelError, match=message):
        open_checkpoint([tmp_path])


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("model.bin", b"\x80\x04", "convert it"),
        ("model.safetensors", b"", "truncated"),
        ("model.safetensors", b"\xff" * 64, "truncated"),
        ("model.safetensors", (5).to_bytes(8, "little") + b"[1,2]", "no object"),
        ("model.safetensors", (9).to_bytes(8, "little") + b'{"a": {}}', "entry a"),
        ("model.safetensors", header("[4.5]"), "is no list of integers"),
        ("model.safetensors", header("[true]"), "is no list of integers"),
        ("model.safetensors", header("[Infinity]"), "is no list of integers"),
        ("model.safetensors", header('"44"'), "is no list of integers"),
        ("model.safetensors", header("[" * 10**5), "cannot be read as safetensors"),
    ],
)
def test_what_is_no_safetensors_file_is_named(
    name: str, data: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ModelError, match=message) as caught:
        load_weights(on_shapes(), open_checkpoint([tmp_path / name]))
    assert name in str(caught.value)


def test_a_truncated_checkpoint_is_named_before_anything_is_written(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(checkpoint(), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match="truncated"):
        load_weights(on_shapes(), open_checkpoint([path]))


def test_bfloat16_stays_bfloat16_where_nothing_has_to_run(tmp_path: Path) -> None:
    safetensors.torch.save_file(checkpoint(torch.bfloat16), tmp_path / "model.safetensors")
    program = on_shapes(torch.bfloat16)
    load_weights(program, open_checkpoint([tmp_path]))
    planned, _ = compile_program(program, TARGET, tmp_path / "out", backend="onnx", golden=False)
    assert planned.converted == ""
    stored = {path.read_bytes() for path in (tmp_path / "out" / "weights").iterdir()}
    original = checkpoint(torch.bfloat16)
    for name in ("first.weight", "second.weight"):
        assert original[name].view(torch.int16).numpy().tobytes() in stored


def test_a_type_the_executor_lacks_is_converted_and_says_so(tmp_path: Path) -> None:
    safetensors.torch.save_file(checkpoint(torch.bfloat16), tmp_path / "model.safetensors")
    program = on_shapes(torch.bfloat16)
    load_weights(program, open_checkpoint([tmp_path]))
    planned, _ = compile_program(program, TARGET, tmp_path / "out")
    assert planned.converted == "bfloat16 to float32"
    bundle = open_bundle(tmp_path / "out")
    assert "convert-types" in bundle.manifest.pipeline
    assert all(result.passed for result in verify_bundle(bundle))
    module = Head()
    module.load_state_dict(
        {name: tensor.float() for name, tensor in checkpoint(torch.bfloat16).items()}
    )
    image = torch.from_numpy(bundle.golden("observation")["image"])
    expected = module(image).detach().numpy()
    np.testing.assert_allclose(bundle.golden("action")["output_0"], expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_checkpoint_copied_while_the_model_is_traced(dtype: torch.dtype, tmp_path: Path) -> None:
    tensors = checkpoint(dtype)
    tensors["first.twin"] = tensors["first.weight"].clone()
    tensors["unread"] = torch.ones(64, 64)
    safetensors.torch.save_file(tensors, tmp_path / "model.safetensors")
    stored = open_checkpoint([tmp_path])
    program = on_shapes(dtype)
    load_weights(program, stored)
    _, before = compile_program(program, TARGET, tmp_path / "before")
    planned, made = compile_program(
        lambda: on_shapes(dtype), TARGET, tmp_path / "made", checkpoint=stored
    )
    assert made.manifest == before.manifest
    assert open_bundle(tmp_path / "made").digest == before.digest
    weights = {f"weights/{path.name}" for path in (tmp_path / "made" / "weights").iterdir()}
    assert weights < set(made.manifest.files)
    assert planned.warnings[0] == "2 weights are not used: first.twin, unread"


def test_a_checkpoint_that_shrinks_meanwhile_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(checkpoint(), path)
    stored = open_checkpoint([path])
    path.write_bytes(path.read_bytes()[:-20_000])
    with pytest.raises(ModelError, match="bytes early"):
        compile_program(on_shapes, TARGET, tmp_path / "out", checkpoint=stored)
    assert [item.name for item in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_bundle_without_an_executor_cannot_be_recorded(tmp_path: Path) -> None:
    program = program_from_module(Head(), (torch.zeros(1, 64),))
    with pytest.raises(InputError, match="--no-golden"):
        compile_program(program, TARGET, tmp_path / "out", backend="onnx")
