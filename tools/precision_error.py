"""How far mixed precision moves the action of the zoo's tiny models from float32.

    python tools/precision_error.py [MODEL ...]

The uncut program after `--precision float16` and `bfloat16` against the same program in float32, on
its example observation: float16 by ONNX Runtime, bfloat16, for which that has no products, by
ONNX's reference evaluator. The bound that is held is a cosine of at least 0.999. No figure depends
on the machine's speed.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from onnx.reference import ReferenceEvaluator
from rich.console import Console
from rich.progress import track
from rich.table import Table

from vlacut import registry
from vlacut.frontends.load import load_program
from vlacut.ir.pipeline import parse_pipeline
from vlacut.ir.program import Program, copied
from vlacut.ir.uses import key_of
from vlacut.runtime.whole import UncutEpisode
from vlacut.split.emission import whole_phases
from vlacut.split.observations import example_observation, initial_of
from vlacut.split.parts import whole, whole_states

BOUND = 0.999
PRECISIONS = ("float16", "bfloat16")


class Evaluated:
    """An uncut phase."""

    def __init__(self, model: ir.Model, reference: bool) -> None:
        self._names = [str(output.name) for output in model.graph.outputs]
        proto = ir.to_proto(model)
        engine = ReferenceEvaluator(proto) if reference else None
        self._run = engine.run if engine else ort.InferenceSession(proto.SerializeToString()).run

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `vlacut.backend.Engine`."""
        return dict(zip(self._names, self._run(None, dict(inputs)), strict=True))


def main() -> None:
    """Print a row for each model and precision; exit status 1 if one is beyond the bound."""
    models = sys.argv[1:] or [f"{name}:tiny" for name in registry.names("models")]
    columns = ("model", "precision", "cosine", "max |error|", "max |action|", "ratio", "in float32")
    table = Table(*columns, box=None)
    worst = 1.0
    for model in track(models, "models"):
        plain = load_program(model)
        parse_pipeline("simplify").run(plain)
        copies = {precision: copied(plain) for precision in PRECISIONS}
        expected = action(plain, reference=False)
        for precision in PRECISIONS:
            mixed = copies[precision]
            text = f"convert-types{{source=weights target={precision} keep=unsafe}}"
            parse_pipeline(text).run(mixed)
            found = action(mixed, reference=precision == "bfloat16")
            cosine = found @ expected / np.linalg.norm(found) / np.linalg.norm(expected)
            error, most = np.abs(found - expected).max(), np.abs(expected).max()
            worst = min(worst, cosine)
            row = (f"{cosine:.6f}", f"{error:.2g}", f"{most:.3g}", f"{error / most:.2g}")
            table.add_row(model, precision, *row, f"{exact_share(mixed):.0%}")
    Console(width=120).print(table)
    if worst < BOUND:
        sys.exit(f"a cosine of {worst:.6f} is below {BOUND}")


def action(program: Program, reference: bool) -> np.ndarray:
    """Every tensor of the action in one vector."""
    described = whole_phases(program)
    engines = {
        phase.name: Evaluated(whole(phase, [item.key for item in found.inputs]), reference)
        for phase, found in zip(program.phases, described, strict=True)
    }
    episode = UncutEpisode(described, engines, whole_states(program), initial_of(program))
    made = episode.step(example_observation(program))
    keys = [key_of(program, program.output_source(spec.name)) for spec in program.outputs]
    return np.concatenate([made[key].astype(np.float64).ravel() for key in keys])


def exact_share(program: Program) -> float:
    """The share of operators on floats that compute in float32, casts not counted."""
    nodes = [node for phase in program.phases for node in phase.model.graph]
    dtypes = [
        node.outputs[0].dtype
        for node in nodes
        if node.op_type != "Cast"
        and node.outputs[0].dtype
        and node.outputs[0].dtype.is_floating_point()
    ]
    return dtypes.count(ir.DataType.FLOAT) / len(dtypes)


if __name__ == "__main__":
    ort.set_default_logger_severity(3)
    main()
