"""The models of the zoo, their control steps in plain torch, and their phases by ONNX Runtime."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch

from support import zoo_figures
from vlacut import registry
from vlacut.compiler.trace_cache import TraceCache
from vlacut.compiler.tracing import traced_program
from vlacut.frontends.torch import TorchPhase
from vlacut.ir.annotation import EXAMPLE
from vlacut.ir.program import Program
from vlacut_models.presets import Examples

Tensors = Mapping[str, torch.Tensor]
Arrays = dict[str, np.ndarray]


def openvla(policy: Any, given: Tensors) -> Any:
    state = policy.prefill(given["input_ids"], policy.vision(given["pixel_values"]))
    for _ in range(6):
        state = policy.decode(*state)
    return {"action": policy.detokenize(state[1])}


def cogact(policy: Any, given: Tensors) -> Any:
    seen = policy.vision(given["pixel_values"])
    cognition, _, step = policy.prefill(given["input_ids"], seen)
    actions = given["noise"]
    for _ in range(10):
        actions, step = policy.denoise(actions, step, cognition)
    return {"action": policy.unnormalize(actions)}


def openvla_oft(policy: Any, given: Tensors) -> Any:
    seen = policy.vision(given["pixel_values"])
    return {"action": policy.head(policy.language(given["input_ids"], seen, given["state"]))}


def pi0(policy: Any, given: Tensors) -> Any:
    seen = policy.vision(given["pixel_values"])
    *caches, step = policy.prefix(seen, given["input_ids"], given["input_mask"])
    actions, rest = given["noise"], (given["state"], given["input_mask"], *caches)
    for _ in range(10):
        actions, step = policy.denoise(actions, step, *rest)
    return {"action": actions}


def smolvla(policy: Any, given: Tensors) -> Any:
    seen, mask = policy.vision(given["pixel_values"]), given["input_mask"]
    *caches, step = policy.prefix(seen, given["input_ids"], mask, given["state"])
    actions = given["noise"]
    for _ in range(10):
        actions, step = policy.denoise(actions, step, mask, *caches)
    return {"action": actions}


def roboflamingo(policy: Any, given: Tensors) -> Any:
    features = policy.language(given["input_ids"], policy.vision(given["pixel_values"]))
    config = policy.config
    zeros = torch.zeros(config.cells, 1, config.memory)
    return {"action": policy.head(features, zeros, zeros)[0]}


def vit_mlp(policy: Any, given: Tensors) -> Any:
    return {"action": policy(given["pixel_values"], given["state"])}


Step = Callable[[Any, Tensors], Any]
CLASSES: dict[str, tuple[str, Step]] = {
    "openvla": ("OpenVLA", openvla),
    "cogact": ("CogACT", cogact),
    "openvla_oft": ("OpenVLAOFT", openvla_oft),
    "pi0": ("Pi0", pi0),
    "smolvla": ("SmolVLA", smolvla),
    "roboflamingo": ("RoboFlamingo", roboflamingo),
    "vit_mlp": ("VitMlp", vit_mlp),
}

# Every model of this repository: one registered by another package has tests of its own.
NAMES = tuple(
    name.replace("-", "_")
    for name in registry.names("models")
    if registry.module_of("models", name).startswith("vlacut_models.")
)


def class_and_step(name: str) -> tuple[str, Step]:
    """The name of a model's class, and its control step in plain torch."""
    if name not in CLASSES or not hasattr(zoo_figures, name):
        pytest.fail(f"{name} is not in CLASSES of zoo.py and in zoo_figures.py, of tests/support")
    return CLASSES[name]


@dataclass(frozen=True)
class Model:
    """A preset of a model: its policy in torch, and the figures that it should have."""

    name: str
    preset: str
    policy: Any
    phases: Sequence[TorchPhase]
    parameters: int
    flops: Mapping[str, int]

    def step(self, observation: Mapping[str, np.ndarray]) -> Arrays:
        """A whole control step in plain torch."""
        given = {name: torch.from_numpy(array) for name, array in observation.items()}
        with torch.no_grad():
            made = class_and_step(self.name)[1](self.policy, given)
        return {name: tensor.numpy() for name, tensor in made.items()}


def module(name: str) -> Any:
    return importlib.import_module(f"vlacut_models.{name}")


@cache
def model(name: str, preset: str = "tiny") -> Model:
    code, examples = module(name), Examples(preset)
    config = code.PRESETS[preset]
    policy = examples.module(lambda: getattr(code, class_and_step(name)[0])(config))
    if name == "cogact" and examples.real:
        code.see_noise(policy.action_model.net)
    parameters, flops = getattr(zoo_figures, name)(config)
    return Model(name, preset, policy, code.phases(policy, examples), parameters, flops)


@cache
def program(name: str, preset: str = "tiny") -> Program:
    """With its numbers in memory, so that a graph can be written anywhere; not to be changed."""
    made = traced(name, preset)
    for phase in made.phases:
        ir.external_data.load_to_model(phase.model)
    return made


def traced(name: str, preset: str = "tiny") -> Program:
    """A program of the zoo, out of the run's cache: tracing one takes seconds."""
    return traced_program(f"{name.replace('_', '-')}:{preset}", cache=TraceCache(), say=str)


def observation(made: Program) -> Arrays:
    recorded = EXAMPLE.get(made)
    return {spec.name: recorded[spec.name] for spec in made.inputs}


@cache
def sessions(name: str) -> list[ort.InferenceSession]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return [
        ort.InferenceSession(
            ir.to_proto(phase.model).SerializeToString(), options, ["CPUExecutionProvider"]
        )
        for phase in program(name).phases
    ]


def run(name: str, given: Mapping[str, np.ndarray]) -> Arrays:
    """The first control step of an episode by ONNX Runtime, with the binding rules of
    `vlacut.ir.program`.
    """
    made, values = program(name), dict(given)
    values |= {one.input: one.first(made.state_spec(one)) for one in made.state}
    for phase, session in zip(made.phases, sessions(name), strict=True):
        inputs = {item: values[item] for item in phase.input_names}
        for _ in range(phase.trips):
            arrays = session.run(list(phase.output_names), inputs)
            outputs = dict(zip(phase.output_names, arrays, strict=True))
            inputs.update((fed, outputs[item]) for item, fed in phase.carried.items())
        values.update(outputs)
    return {spec.name: values[spec.name] for spec in made.outputs}


def weights(made: Program) -> dict[str, int]:
    """Elements of every initializer, by name."""
    return {
        name: math.prod(int(str(size)) for size in value.shape or ())
        for phase in made.phases
        for name, value in phase.model.graph.initializers.items()
    }


def matrix_flops(graph: ir.Graph) -> int:
    """FLOPs of a graph's matrices and convolutions, from the shapes on its values."""
    total = 0
    for node in graph:
        if node.op_type not in ("MatMul", "Gemm", "Conv"):
            continue
        result, first, second = (
            [int(str(size)) for size in value.shape]  # type: ignore[union-attr]
            for value in (node.outputs[0], node.inputs[0], node.inputs[1])
        )
        inner = math.prod(second[1:]) if node.op_type == "Conv" else first[-1]
        total += 2 * math.prod(result) * inner
    return total
