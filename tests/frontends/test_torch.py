"""The torch front end: what is traced computes what the module does, under the module's names."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
import transformers
from support.torch_models import (
    MODELS,
    T5,
    Llama,
    Nested,
    denoiser,
    digests,
    run_graph,
    run_program,
    seeded,
    tokens,
    traced,
)
from torch import nn

from vlacut.errors import ModelError
from vlacut.frontends.cures import with_cure
from vlacut.frontends.torch import (
    TorchPhase,
    program_from_module,
    program_from_torch,
    shapes_only,
)
from vlacut.ir.annotation import EXAMPLE
from vlacut.ir.graphs import value_spec
from vlacut.ir.verifier import verify

SCOPES = "pkg.torch.onnx.name_scopes"


def assert_close(made: np.ndarray, expected: torch.Tensor) -> None:
    """Equal up to a few roundings of the largest element."""
    wanted = expected.detach().numpy()
    np.testing.assert_allclose(made, wanted, rtol=1e-5, atol=1e-6 * np.abs(wanted).max())


@pytest.mark.parametrize("name", MODELS)
def test_a_traced_model_computes_what_the_module_does(name: str) -> None:
    module, program = MODELS[name]()
    verify(program)
    example = EXAMPLE.get(program)
    made = run_program(program, example)["out"]
    with torch.no_grad():
        expected = module(*(torch.from_numpy(example[spec.name]) for spec in program.inputs))
    assert np.abs(expected.numpy()).max() > 1e-2
    assert_close(made, expected)


def test_two_halves_of_one_module_compute_the_whole() -> None:
    module = seeded(T5)
    memory = torch.zeros(1, 6, 32)
    phases = (
        TorchPhase("encode", module, {"tokens": tokens(6)}, ("memory",), "encode"),
        TorchPhase("decode", module, {"memory": memory, "prefix": tokens(3)}, ("out",), "decode"),
    )
    program = program_from_torch("t5", phases, ["tokens", "prefix"], ["out"])
    verify(program)
    made = run_program(program, EXAMPLE.get(program))["out"]
    assert_close(made, module(tokens(6), tokens(3)))
    encode, decode = (set(phase.model.graph.initializers) for phase in program.phases)
    assert "t5.shared.weight" in encode & decode


def test_a_loop_computes_what_calling_the_method_again_does() -> None:
    module, program = denoiser()
    verify(program)
    example = EXAMPLE.get(program)
    assert list(example) == ["image", "noise"]
    with torch.no_grad():
        context, step = module.encode(torch.from_numpy(example["image"]))
        action = torch.from_numpy(example["noise"])
        for _ in range(3):
            action, step = module.denoise(action, context, step)
    made = run_program(program, example)["action"]
    np.testing.assert_allclose(made, action.numpy(), rtol=1e-5, atol=1e-6)


def test_weights_have_the_names_and_the_storage_of_the_parameters() -> None:
    module, program = denoiser()
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    for phase in program.phases:
        for name, value in phase.model.graph.initializers.items():
            if "[" not in name:  # a constant of the code
                content = value.const_value.numpy()
                assert content.ctypes.data == tensors.pop(name, tensors_of(module)[name]).data_ptr()
    assert not tensors


def tensors_of(module: nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def test_module_paths_are_the_modules_own_in_every_phase() -> None:
    _, program = denoiser()
    for phase in program.phases:
        paths = [ast.literal_eval(node.metadata_props[SCOPES]) for node in phase.model.graph]
        assert any("block.2" in path for path in paths)
        known = {"", "block", "block.0", "block.1", "block.2", "norm"}
        assert all(set(path[:-1]) <= known for path in paths)


def test_a_tied_weight_is_one_weight_under_its_first_name() -> None:
    _, program = traced(Llama, tokens=tokens(5))
    names = program.phases[0].model.graph.initializers
    assert "language_model.model.embed_tokens.weight" in names
    assert "language_model.lm_head.weight" not in names


def test_nothing_of_the_machine_is_in_the_graph() -> None:
    _, program = traced(Llama, tokens=tokens(5))
    text = ir.to_proto(program.phases[0].model).SerializeToString()
    assert str(Path(__file__).parent).encode() not in text
    assert b".py" not in text


_EXPORT = """
import sys
sys.path.insert(0, {folder!r})
from support.torch_models import digests
print(*digests())
"""


@pytest.mark.slow
def test_two_processes_export_the_same_bytes() -> None:
    other = subprocess.run(
        [sys.executable, "-c", _EXPORT.format(folder=str(Path(__file__).parents[1]))],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"},
    )
    assert other.stdout.split() == digests()
    assert other.stderr == ""


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_model_without_weights_is_traced_on_shapes(device: str) -> None:
    config = transformers.LlamaConfig(
        hidden_size=2048, intermediate_size=5632, num_hidden_layers=4, vocab_size=32000
    )
    before = peak_bytes()
    with shapes_only():
        module = transformers.LlamaForCausalLM(config).eval()
    wrapped = LogitsOnly(module)
    embedded = torch.zeros(1, 20, 2048, device=device)
    phase = TorchPhase("main", wrapped, {"embedded": embedded}, ("logits",))
    program = program_from_torch("big", [phase], ["embedded"], ["logits"])
    verify(program)
    weights = program.phases[0].model.graph.initializers
    parameters = dict(wrapped.named_parameters())
    assert {name for name, value in weights.items() if value.const_value is None} == {
        name for name in parameters if "embed_tokens" not in name
    }
    for name, value in weights.items():
        if value.const_value is None:
            assert value_spec(value).shape == tuple(parameters[name].shape)
    assert weights["model.model.rotary_emb.inv_freq"].const_value is not None
    assert all(parameter.is_meta for parameter in parameters.values())
    assert (EXAMPLE.find(program) is None) == (device == "meta")
    assert peak_bytes() - before < 600e6  # the weights would take 1.4 GB


class LogitsOnly(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, embedded: torch.Tensor) -> torch.Tensor:
        return self.model(inputs_embeds=embedded, use_cache=False).logits


def peak_bytes() -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


class Reductions(nn.Module):
    """Whose results PyTorch's exporter leaves in float32 where they are outputs."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return x.sum(1), x.amax(1), x.cumsum(1), x + x.amin(1, keepdim=True), x.argmax(1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_outputs_have_the_types_of_the_module_s(dtype: torch.dtype) -> None:
    module, x = Reductions(), torch.arange(-12, 12, dtype=dtype).reshape(2, 4, 3)  # exact sums
    names = ["sum", "amax", "cumsum", "shifted", "argmax"]
    program = program_from_torch(
        "p", [TorchPhase("r", module, {"x": x}, tuple(names))], ["x"], names
    )
    verify(program)
    wanted = [str(one.dtype).removeprefix("torch.") for one in module(x)]
    assert [spec.dtype for spec in program.outputs] == wanted
    if dtype is torch.bfloat16:  # ONNX Runtime's CPU has no Add of it
        return
    made = run_program(program, EXAMPLE.get(program))
    for name, expected in zip(names, module(x), strict=True):
        np.testing.assert_array_equal(made[name].astype(np.float32), expected.float().numpy())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_its_type_and_bits(dtype: torch.dtype) -> None:
    module = seeded(lambda: nn.Linear(4, 3)).to(dtype)
    example = torch.linspace(-1, 1, 8, dtype=dtype).reshape(2, 4)
    program = program_from_module(module, (example,))
    verify(program)
    name = str(dtype).removeprefix("torch.")
    assert {spec.dtype for spec in (*program.inputs, *program.outputs)} == {name}
    weight = program.phases[0].model.graph.initializers["weight"].const_value
    expected = module.weight.detach().view(torch.uint16).numpy()
    np.testing.assert_array_equal(weight.numpy().view(np.uint16), expected)
    assert program.inputs[0].check(EXAMPLE.get(program)["input"]).nbytes == 16


def test_nested_arguments_and_results_are_named_by_their_path() -> None:
    module, x, a = seeded(Nested), torch.ones(2, 4), torch.arange(4.0)
    program = program_from_module(module, (x, None, True), {"more": {"a": a}}, name="nested")
    verify(program)
    assert [spec.name for spec in program.inputs] == ["x", "a"]
    assert [spec.name for spec in program.outputs] == ["y", "pair.0", "pair.1"]
    made = run_program(program, EXAMPLE.get(program))
    expected = module(x, None, True, {"a": a})
    np.testing.assert_allclose(made["y"], expected["y"].detach().numpy(), rtol=1e-6)
    np.testing.assert_array_equal(made["pair.0"], x.numpy())


class Recurrent(nn.Module):
    """A batch by key, a state in and out under one name, and a tuple with a mapping in it."""

    def forward(self, batch, h, *more):
        seen = batch["observation.images.top"] + batch["observation.state"]
        return seen + more[0], {"h": h + 1, "probability": seen * more[1]["scale"]}


def test_names_are_the_users_where_they_are_free() -> None:
    x = torch.ones(2)
    batch = {"observation.images.top": x, "observation.state": x}
    program = program_from_module(Recurrent(), (batch, x, x, {"scale": x}))
    assert [spec.name for spec in program.inputs] == [
        *("observation.images.top", "observation.state", "h", "more_0", "scale")
    ]
    assert [spec.name for spec in program.outputs] == ["output_0", "h_out", "probability"]
    both = program_from_module(Pair(), ({"a": x}, {"a": x}))
    assert [spec.name for spec in both.inputs] == ["left.a", "right.a"]
    assert [spec.name for spec in both.outputs] == ["h"]


class Pair(nn.Module):
    def forward(self, left, right):
        return [{"h": left["a"] - right["a"]}]


class AllTrue(nn.Module):
    def forward(self, x, mask):
        return torch.where(torch.ops.aten._is_all_true(mask), x, -x)


class Scattered(nn.Module):
    def forward(self, x, mask):
        return x.masked_scatter(mask, x * 2)


class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
        heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 9}
        self.model = transformers.MixtralForCausalLM(transformers.MixtralConfig(**sizes, **heads))

    def forward(self, tokens):
        return self.model(tokens, use_cache=False).logits


@pytest.mark.parametrize(
    ("module", "cure"),
    [
        (AllTrue, "attn_implementation"),
        (Scattered, "choose with torch.where"),
        (Experts, "set_experts_implementation"),
    ],
    ids=["_is_all_true", "masked_scatter", "grouped_mm"],
)
def test_failures_of_exported_programs_come_with_the_next_step(
    module: Callable[[], nn.Module], cure: str
) -> None:
    made = seeded(module)
    args = (torch.ones(2, 3), torch.ones(2, 3, dtype=torch.bool))
    with torch.no_grad():
        given = (tokens(4) % 9,) if isinstance(made, Experts) else args
        exported = torch.export.export(made, given, strict=False)
    with pytest.raises(ModelError, match=cure):
        program_from_module(exported)


def test_a_cache_that_torch_cannot_hand_on_comes_with_the_next_step() -> None:
    """Whether torch meets one that is given or one that is made: its messages name the class."""
    for said in (
        "Unsupported input type <class 'transformers.cache_utils.DynamicCache'>",
        "Found <class 'transformers.cache_utils.StaticCache'> in output, which is not a known type",
    ):
        assert with_cure(said).startswith(f"{said}; a cache is an object")
    assert with_cure("cached 'x'") == "cached 'x'"


def test_a_model_output_and_a_graph_module_are_taken() -> None:
    config = transformers.ViTConfig(
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=8,
        patch_size=4,
    )
    vit = seeded(lambda: transformers.ViTModel(config))
    program = program_from_module(vit, (torch.zeros(1, 3, 8, 8),))
    assert [spec.name for spec in program.inputs] == ["pixel_values"]
    assert [spec.name for spec in program.outputs] == ["last_hidden_state", "pooler_output"]
    block = seeded(lambda: nn.Sequential(nn.Linear(4, 4), nn.Tanh()))
    traced_block = torch.fx.symbolic_trace(block)
    program = program_from_module(traced_block, (torch.ones(1, 4),))
    verify(program)
    assert set(program.phases[0].model.graph.initializers) == {"0.weight", "0.bias"}
    made = run_program(program, EXAMPLE.get(program))["output_0"]
    np.testing.assert_allclose(made, block(torch.ones(1, 4)).detach().numpy(), rtol=1e-6)


def test_equal_names_of_different_modules_stay_apart() -> None:
    one, two = seeded(lambda: nn.Linear(4, 4)), seeded(lambda: nn.Linear(4, 4))
    with torch.no_grad():
        two.weight.add_(1)
    phases = (
        TorchPhase("one", one, {"x": torch.ones(1, 4)}, ("y",)),
        TorchPhase("two", two, {"y": torch.ones(1, 4)}, ("z",)),
    )
    program = program_from_torch("p", phases, ["x"], ["z"])
    assert set(program.phases[1].model.graph.initializers) == {"two:weight", "bias"}
    made = run_program(program, EXAMPLE.get(program))["z"]
    expected = two(one(torch.ones(1, 4))).detach().numpy()
    np.testing.assert_allclose(made, expected, rtol=1e-6)


def test_an_attention_operator_set_computes_the_same() -> None:
    module = seeded(lambda: Llama(1))
    phase = TorchPhase("main", module, {"tokens": tokens(5)}, ("out",))
    program = program_from_torch("p", [phase], ["tokens"], ["out"], opset=23)
    verify(program)
    assert "Attention" in {node.op_type for node in program.phases[0].model.graph}
    made = run_graph(program.phases[0].model, EXAMPLE.get(program))["out"]
    np.testing.assert_allclose(made, module(tokens(5)).detach().numpy(), rtol=1e-4, atol=1e-5)
