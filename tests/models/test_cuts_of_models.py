"""Random cuts of real models compose to the whole, bit for bit in float32.

Where the back end promises less (float16, or optimisation beyond basic) the bound is stated.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
import transformers
from support.cutting import Walk, all_on, write_cuts
from support.slow import quick

from vlacut.frontends.onnx import onnx_program
from vlacut.frontends.torch import program_from_module
from vlacut.hardware import Side
from vlacut.ir.annotation import SECONDS, Seconds
from vlacut.ir.dataflow import Dataflow, trace_dataflow
from vlacut.ir.graphs import operators
from vlacut.ir.pipeline import parse_pipeline
from vlacut.ir.program import Program
from vlacut.plans.instructions import Transfer, flatten
from vlacut.split.observations import example_observation
from vlacut.split.parts import split

CUTS = 20
LIGHT = sorted((Path(onnx.__file__).parent / "backend/test/data/light").glob("*.onnx"))


def vit() -> Program:
    config = transformers.ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=32,
        patch_size=8,
    )
    return traced(transformers.ViTModel(config), pixel_values=torch.randn(1, 3, 32, 32))


def llama() -> Program:
    config = transformers.LlamaConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        vocab_size=100,
        use_cache=False,
    )
    ids = torch.randint(0, 100, (1, 12))
    return traced(transformers.LlamaForCausalLM(config), input_ids=ids)


def t5() -> Program:
    config = transformers.T5Config(
        d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, vocab_size=100, use_cache=False
    )
    ids = torch.randint(0, 100, (1, 10))
    model = transformers.T5ForConditionalGeneration(config)
    return traced(model, input_ids=ids, decoder_input_ids=ids[:, :5])


def traced(module: torch.nn.Module, **kwargs: torch.Tensor) -> Program:
    program = program_from_module(module.eval(), (), kwargs, name=type(module).__name__)
    parse_pipeline("simplify").run(program)
    return program


def light(path: Path) -> Program:
    program = onnx_program(path, {})
    parse_pipeline("simplify").run(program)
    return program


def place(program: Program, seed: int) -> Dataflow:
    """Cut it: stretches of the topological order on alternate sides; the even seeds cross once."""
    numbers = np.random.default_rng(seed)
    nodes = [node for phase in program.phases for node in operators(phase.model.graph)]
    changes = 1 if seed % 2 == 0 else int(numbers.integers(2, 6))
    borders = set(numbers.choice(len(nodes), min(changes, len(nodes)), replace=False))
    side, there = Side.EDGE, {}
    for index, node in enumerate(nodes):
        side = side.other if index in borders else side
        SECONDS.put(node, Seconds(1e-6, 1e-6))
        there[node] = side
    dataflow = trace_dataflow(program)
    sides = [Side.EDGE if node is None else there[node] for node in dataflow.nodes]
    return write_cuts(dataflow, sides)


def worst_error(program: Program, cuts: int) -> float:
    """The largest error over random cuts; asserts that no weight crosses in any of them."""
    observed = example_observation(program)
    outputs = {spec.name: f"{program.phases[-1].name}/{spec.name}" for spec in program.outputs}
    whole = Walk(split(place_all(program, Side.EDGE)), observed).held[Side.EDGE]
    worst = 0.0
    for seed in range(cuts):
        dataflow = place(program, seed)
        made = split(dataflow)
        computed = {use.key for use in dataflow.uses}
        sent = {
            key
            for step in flatten(made.schedule)
            if isinstance(step, Transfer)
            for key in step.tensors
        }
        assert sent <= computed
        assert not {key.partition("/")[2] for key in sent} & weight_only(program)
        held = Walk(made, observed).held[Side.EDGE]
        for key in outputs.values():
            difference = np.abs(held[key].astype(np.float64) - whole[key].astype(np.float64))
            worst = max(worst, float(difference.max()))
    return worst


def place_all(program: Program, side: Side) -> Dataflow:
    for phase in program.phases:
        for node in operators(phase.model.graph):
            SECONDS.put(node, Seconds(1e-6, 1e-6))
    dataflow = trace_dataflow(program)
    return write_cuts(dataflow, all_on(dataflow, side))


def weight_only(program: Program) -> set[str]:
    """Names of values that depend on weights alone, and of the weights."""
    names: set[str] = set()
    for phase in program.phases:
        live = set(operators(phase.model.graph))
        names |= set(phase.model.graph.initializers)
        rest = (node for node in phase.model.graph if node not in live)
        names |= {str(value.name) for node in rest for value in node.outputs}
    return names


@pytest.mark.parametrize("make", quick([vit, llama, t5], llama))
def test_transformers_models(make: Callable[[], Program]) -> None:
    torch.manual_seed(0)
    assert worst_error(make(), CUTS) == 0


@pytest.mark.parametrize("path", quick(LIGHT, LIGHT[-3]), ids=lambda path: path.stem)
def test_light_models(path: Path) -> None:
    assert worst_error(light(path), CUTS) == 0


@pytest.mark.slow
def test_float16_stays_within_the_bound_it_states() -> None:
    from vlacut_backends.onnxruntime.build import OnnxRuntimeBuilder

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        vocab_size=100,
        use_cache=False,
    )
    model = transformers.LlamaForCausalLM(config).half()
    program = traced(model, input_ids=torch.randint(0, 100, (1, 12)))
    tolerance = OnnxRuntimeBuilder().tolerance(program.phases[0].model)
    whole = Walk(split(place_all(program, Side.EDGE)), example_observation(program)).held[Side.EDGE]
    largest = max(float(np.abs(whole[f"main/{spec.name}"]).max()) for spec in program.outputs)
    assert 0 < tolerance < 0.01
    assert worst_error(program, CUTS) <= tolerance * largest


def test_no_ir_node_is_shared_between_parts() -> None:
    """Weight-only operators are cloned: parts can be changed apart."""
    torch.manual_seed(0)
    program = vit()
    made = split(place(program, 1))
    nodes = [
        node for model in made.models for node in ir.traversal.RecursiveGraphIterator(model.graph)
    ]
    assert len(set(map(id, nodes))) == len(nodes)
