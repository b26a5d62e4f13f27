"""How far rounded weights move the action of the zoo's tiny models, way by way.

    python tools/rounding_error.py [MODEL ...]
    python tools/rounding_error.py --random 40
    python tools/rounding_error.py --policy flow --policy tokens

The uncut program in 4 bits rounded to the nearest and by GPTQ, with activations as they are and in
8 bits, and in 8 bits, against the program as it is, as the back end onnxruntime runs them: the
action on observations of which rounding has seen the example alone, as a share of the action's
magnitude, and the worst element of an output of a phase that has the same inputs in both, which is
what the model check holds to its tolerance. No figure depends on the machine's speed. A model takes
minutes: GPTQ observes 32 steps in ONNX's reference evaluator. `--random` takes stacks of products
of random widths, depths and weights instead, and prints quantiles over them. `--policy` takes a
trained policy of the closed loop (`tools/closed_loop`, which needs MuJoCo), on rendered scenes:
rounded by 32 of them, compared on 24 others.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from rich.console import Console
from rich.table import Table

from vlacut import registry
from vlacut.errors import PassError
from vlacut.frontends.load import load_program
from vlacut.ir.pipeline import parse_pipeline
from vlacut.ir.program import Phase, Program, copied
from vlacut.ir.uses import key_of
from vlacut.runtime.whole import UncutEpisode
from vlacut.split.emission import whole_phases
from vlacut.split.observations import example_observation, held_out, initial_of
from vlacut.split.parts import whole, whole_states
from vlacut.tensor import TensorSpec
from vlacut.tensor.npz import npz_bytes
from vlacut.tensor.numerics import relative_difference, varied

WAYS = {
    "W4A16, to the nearest": "quantise{weights=int4 method=rtn activations=float}",
    "W4A16, GPTQ": "quantise{weights=int4 method=gptq activations=float}",
    "W4A8, to the nearest": "quantise{weights=int4 method=rtn}",
    "W4A8, GPTQ": "quantise{weights=int4 method=gptq}",
    "W8A8": "quantise{weights=int8}",
}
OBSERVATIONS = 8  # variations of the example, none of which is fitted to
SCENES, FRESH = 128, 24  # rendered, a quarter of which is fitted to; compared on

Arrays = Mapping[str, np.ndarray]


class Ran:
    """A phase as the back end onnxruntime runs it: its products of 4 bits, its optimisation."""

    def __init__(self, model: ir.Model) -> None:
        builder = registry.load("builders", "onnxruntime")()
        recipe = builder.recipe()
        builder.prepare(model, "a phase", recipe)
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        without = recipe["without"].split()
        data = ir.to_proto(model).SerializeToString()
        self._names = [str(output.name) for output in model.graph.outputs]
        self._run = ort.InferenceSession(data, options, disabled_optimizers=without).run

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """See `vlacut.backend.Engine`."""
        return dict(zip(self._names, self._run(None, dict(inputs)), strict=True))


class Watched:
    """Runs phases of one program, and those of another on the same inputs.

    Attributes:
        worst: the largest difference of a float output of a phase, as a share of its magnitude.
    """

    def __init__(self, phase: Ran, beside: Ran) -> None:
        self._phase, self._beside, self.worst = phase, beside, 0.0

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """See `vlacut.backend.Engine`."""
        made, other = self._phase.run(inputs), self._beside.run(inputs)
        for name, array in made.items():
            if np.issubdtype(array.dtype, np.floating):
                apart = relative_difference({name: other[name]}, {name: array})
                self.worst = max(self.worst, apart)
        return made


def main() -> None:
    """Print a row for each model and way of rounding, as they come."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=[])
    parser.add_argument("--random", type=int, default=0, help="so many random stacks instead")
    parser.add_argument("--policy", action="append", default=[], help="of the closed loop")
    asked = parser.parse_args()
    out = Console(width=110)
    if asked.random:
        out.print(random_stacks(asked.random))
        return
    if asked.policy:
        for name in asked.policy:
            out.print(trained(name))
        return
    columns = ("model", "weights", "action, median", "action, largest", "output of a phase")
    table = Table(*columns, box=None)
    for model in asked.models or [f"{name}:tiny" for name in registry.names("models")]:
        plain = load_program(model)
        parse_pipeline("simplify").run(plain)
        for way, text in WAYS.items():
            rounded = copied(plain)
            try:
                parse_pipeline(text).run(rounded)
            except PassError as error:  # a model may be too small for it
                out.print(model, way, str(error), soft_wrap=True)
                continue
            errors, worst = compare(plain, rounded)
            row = (f"{np.median(errors):.3g}", f"{max(errors):.3g}", f"{worst:.3g}")
            table.add_row(model, way, *row)
            out.print(model, way, *row)
    out.print(table)


def trained(name: str) -> Table:
    """A policy that was trained: the action on scenes that rounding has not seen."""
    table = Table("policy", "weights", "action, median", "action, largest", box=None)
    plain, scenes = closed_loop_policy(name)
    parse_pipeline("simplify").run(plain)
    order = np.random.default_rng(0).permutation(len(scenes))  # as `quantise` draws its quarter
    fresh = held_out([scenes[place] for place in order])[:FRESH]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scenes.npz"
        stacked = {key: np.stack([one[key] for one in scenes]) for key in scenes[0]}
        file.write_bytes(npz_bytes(stacked))
        for way, text in WAYS.items():
            rounded = copied(plain)
            parse_pipeline(text.replace("}", f" calibration={file}}}")).run(rounded)
            errors, _ = compare(plain, rounded, fresh)
            table.add_row(name, way, f"{np.median(errors):.3g}", f"{max(errors):.3g}")
    return table


def closed_loop_policy(name: str) -> tuple[Program, list[dict[str, np.ndarray]]]:
    """A trained policy as a program, and rendered scenes of its task."""
    import closed_loop
    from closed_loop.policies import heads, tokens
    from closed_loop.results.tables import learnt
    from closed_loop.rollouts import programs
    from closed_loop.simulation import tasks, world
    from closed_loop.training import scattered

    net = heads.load(name, Path(closed_loop.__path__[0]) / "weights")
    if isinstance(net, tokens.TokenPolicy):
        program = programs.token_program(net)
    else:
        program = programs.flow_program(net)
    task = learnt(name)[-1]
    seen, found = world.World(tasks.TASKS[task].xml), []
    for seed in range(SCENES):
        scene = dict(scattered.scatter(task, seen, seed))
        scene["tokens"] = scene["words"]
        drawn = np.random.default_rng(seed)
        for spec in program.inputs:
            if spec.name not in scene:  # what the policy starts from
                scene[spec.name] = drawn.standard_normal(spec.shape).astype(np.float32)
        found.append({spec.name: np.asarray(scene[spec.name]) for spec in program.inputs})
    seen.close()
    return program, found


def random_stacks(count: int) -> Table:
    """Quantiles, over random stacks, of the worst output of their phase."""
    table = Table("weights", "stacks", "median", "95 %", "largest", box=None)
    plain = [stack(seed) for seed in range(count)]
    for way, text in WAYS.items():
        worst = []
        for program in plain:
            rounded = copied(program)
            parse_pipeline(text.replace("}", " smallest=1024}")).run(rounded)
            worst.append(compare(program, rounded)[1])
        said = (f"{np.quantile(worst, share):.3g}" for share in (0.5, 0.95, 1.0))
        table.add_row(way, str(count), *said)
    return table


def stack(seed: int) -> Program:
    """One to six products, each with a pointwise operator behind it."""
    numbers = np.random.default_rng(seed)
    widths = [32 * int(numbers.integers(1, 9)) for _ in range(int(numbers.integers(2, 8)))]
    rows, lines = int(numbers.integers(1, 17)), []
    for place in range(len(widths) - 1):
        kind = numbers.choice(["Relu", "Tanh", "Identity"])
        lines += [f"p{place} = MatMul (h{place}, w{place})", f"h{place + 1} = {kind} (p{place})"]
    last = len(widths) - 1
    model = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 20]> f (float[{rows}, {widths[0]}] h0) => '
        f"(float[{rows}, {widths[-1]}] h{last}) {{ {' '.join(lines)} }}"
    )
    for place in range(last):
        shape = widths[place], widths[place + 1]
        weight = numbers.standard_normal(shape) / np.sqrt(shape[0])
        array = weight.astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, f"w{place}"))
    for node in model.graph.node:
        node.name = node.output[0]
    model = onnx.shape_inference.infer_shapes(model)
    given = TensorSpec("h0", "float32", (rows, widths[0]))
    made = TensorSpec(f"h{last}", "float32", (rows, widths[-1]))
    return Program(f"stack{seed}", (Phase("f", ir.from_proto(model)),), (given,), (made,))


def compare(
    plain: Program, rounded: Program, fresh: Sequence[Arrays] = ()
) -> tuple[list[float], float]:
    """Errors of the action by observation, and the worst output of a phase."""
    here, there = dict(engines(plain)), dict(engines(rounded))
    watched = {name: Watched(engine, there[name]) for name, engine in here.items()}
    example, errors = example_observation(plain), []
    for observed in fresh or [varied(plain.inputs, example, seed) for seed in range(OBSERVATIONS)]:
        expected = step(plain, watched, observed)
        errors.append(relative_difference(step(rounded, there, observed), expected))
    return errors, max(one.worst for one in watched.values())


def engines(program: Program) -> Iterator[tuple[str, Ran]]:
    """Of the uncut phases, by name."""
    for phase, found in zip(program.phases, whole_phases(program), strict=True):
        yield phase.name, Ran(whole(phase, [item.key for item in found.inputs]))


def step(
    program: Program, phases: Mapping[str, Ran | Watched], observed: Arrays
) -> dict[str, np.ndarray]:
    """The action of the first step of an episode, by name."""
    episode = UncutEpisode(
        whole_phases(program), phases, whole_states(program), initial_of(program)
    )
    made = episode.step(observed)
    return {
        spec.name: made[key_of(program, program.output_source(spec.name))]
        for spec in program.outputs
    }


if __name__ == "__main__":
    ort.set_default_logger_severity(3)
    main()
