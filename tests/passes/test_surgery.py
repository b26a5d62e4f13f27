"""surgery: a phase in the hands of a function of the user's own, weights by reference."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.cutting import run_whole
from support.one_operator import one_operator, tensor
from support.programs import looping_program, observation

from vlacut.compiler.target_pipeline import pipeline_for
from vlacut.errors import PassError
from vlacut.ir import verifier
from vlacut_passes.surgery import Surgery

pytest.importorskip("onnx_graphsurgeon")

FIX = """
import numpy as np
import onnx_graphsurgeon as gs

def nothing(graph):
    return graph

def twice(graph):
    "Doubles what the first Tanh of a phase makes, by another operator."
    for node in [node for node in graph.nodes if node.op == "Tanh"]:
        made = node.outputs[0]
        plain = gs.Variable(made.name + "_plain", made.dtype, made.shape)
        node.outputs[0] = plain
        two = gs.Constant(made.name + "_two", np.array(2, np.float32))
        operands = [plain, two]
        graph.nodes.append(gs.Node("Mul", node.name + "_twice", inputs=operands, outputs=[made]))
    return graph.cleanup()

def halved(graph):
    for node in graph.nodes:
        for weight in node.inputs:
            if isinstance(weight, gs.Constant) and weight.name == "encoder.stem":
                weight.values = weight.values * np.float32(0.5)

def renames(graph):
    graph.outputs[0].name = "other"

def untyped(graph):
    node = next(node for node in graph.nodes if node.op == "Tanh")
    made = node.outputs[0]
    plain, odd = gs.Variable("plain"), gs.Variable("odd")
    node.outputs[0] = plain
    graph.nodes.append(gs.Node("Mine", "mine", domain="my", inputs=[plain], outputs=[odd]))
    graph.nodes.append(gs.Node("Tanh", "back", inputs=[odd], outputs=[made]))
    return graph

def dangles(graph):
    graph.nodes[0].inputs[0] = gs.Variable("nowhere", np.float32, (1, 64))

def raises(graph):
    raise KeyError("conv_7")

def number(graph):
    return 3
"""


@pytest.fixture
def fix(tmp_path: Path) -> str:
    (tmp_path / "fix.py").write_text(FIX)
    return str(tmp_path / "fix.py")


def test_what_is_left_alone_is_what_it_was(fix: str) -> None:
    """The same weights, not copies of them; the same places, types and numbers."""
    program = looping_program()
    graph = program.phases[0].model.graph
    graph.node("node_active").metadata_props["place"] = "encoder"
    before = {name: value.const_value for name, value in graph.initializers.items()}
    observed = observation(program)
    wanted = run_whole(program, observed)
    Surgery(file=fix, function="nothing").run(program)
    verifier.verify(program)
    after = program.phases[0].model.graph
    assert after is not graph
    assert {name: value.const_value for name, value in after.initializers.items()} == before
    assert after.node("node_active").metadata_props["place"] == "encoder"
    made = run_whole(program, observed)
    np.testing.assert_array_equal(made["action"], wanted["action"])


def test_a_pattern_is_replaced(fix: str) -> None:
    program = looping_program()
    observed = observation(program)
    weights = {
        name: value.const_value.numpy()
        for phase in program.phases
        for name, value in phase.model.graph.initializers.items()
    }
    Surgery(file=fix, function="twice").run(program)
    verifier.verify(program)
    state, features = observed["state"], 2 * np.tanh(observed["image"] @ weights["encoder.stem"])
    for _ in range(3):
        joined = features @ weights["encoder.mixer"] + state
        state = 2 * np.tanh(joined @ weights["head.refine"])
    np.testing.assert_allclose(run_whole(program, observed)["action"], state, rtol=1e-5, atol=1e-6)


def test_a_weight_may_be_changed_in_one_phase(fix: str) -> None:
    program = looping_program()
    old = program.phases[0].model.graph.initializers["encoder.stem"].const_value.numpy()
    head = program.phases[1].model.graph.initializers["head.refine"].const_value
    Surgery(file=fix, function="halved", phase="encode").run(program)
    made = program.phases[0].model.graph.initializers["encoder.stem"].const_value.numpy()
    np.testing.assert_array_equal(made, old * np.float32(0.5))
    assert program.phases[1].model.graph.initializers["head.refine"].const_value is head


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("renames", "on phase encode: changed the outputs: other float32"),
        ("raises", "on phase encode: KeyError: 'conv_7'"),
        ("number", "returned int, must return a gs.Graph"),
        ("untyped", "has no type or shape, and none can be inferred"),
        ("missing", "there is no function 'missing' in it"),
        ("", "write FILE.py:FUNCTION"),
    ],
)
def test_what_is_at_fault_is_one_line(fix: str, function: str, message: str) -> None:
    program = looping_program()
    graph = program.phases[0].model.graph
    with pytest.raises(PassError, match=message) as found:
        Surgery(file=fix, function=function).run(program)
    assert "\n" not in str(found.value)
    assert program.phases[0].model.graph is graph


def test_a_graph_that_was_broken_is_refused(fix: str) -> None:
    program = looping_program()
    with pytest.raises(PassError, match="MatMul node_embed reads nowhere, which nothing makes"):
        Surgery(file=fix, function="dangles").run(program)


def test_a_file_that_cannot_be_run_is_named(fix: str, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import nothing_of_that_name\n")
    with pytest.raises(PassError, match=r"bad\.py: ModuleNotFoundError"):
        Surgery(file=str(tmp_path / "bad.py"), function="fix").run(looping_program())
    with pytest.raises(PassError, match="there is no phase 'x'; there are encode, decode"):
        Surgery(file=fix, function="nothing", phase="x").run(looping_program())


def test_a_weight_without_content_says_so(fix: str) -> None:
    weight = tensor("encoder.stem", (64, 64))
    program = one_operator("MatMul", [tensor("x", (1, 64)), weight], (1, 64), [weight])
    Surgery(file=fix, function="nothing").run(program)
    assert program.phases[0].model.graph.initializers["encoder.stem"].const_value is None
    with pytest.raises(PassError, match="traced on shapes alone: the weight has no content"):
        Surgery(file=fix, function="halved").run(program)


_LARGE = """
import sys
from pathlib import Path
import onnx_ir as ir
from support.one_operator import tensor
from vlacut.ir.program import Phase, Program
from vlacut.ir.graphs import value_spec
from vlacut_passes.surgery import Surgery
folder, count, width = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
x = tensor("x", (1, width))
value, nodes, weights = x, [], []
for number in range(count):
    weight = tensor(f"w{number}", (width, width))
    weight.const_value = ir.ExternalTensor(
        f"w{number}", 0, 4 * width * width, ir.DataType.FLOAT, shape=ir.Shape((width, width)),
        name=weight.name, base_dir=folder,
    )
    nodes.append(ir.node("MatMul", [value, weight], name=f"n{number}"))
    value = nodes[-1].outputs[0]
    value.name, value.dtype, value.shape = f"v{number}", ir.DataType.FLOAT, ir.Shape((1, width))
    weights.append(weight)
graph = ir.Graph([x], [value], nodes=nodes, initializers=weights, opset_imports={"": 20}, name="g")
phase = Phase("main", ir.Model(graph, ir_version=10))
program = Program("large", (phase,), (value_spec(x),), (value_spec(value),))
Surgery(file=sys.argv[4], function="nothing").run(program)
kept = phase.model.graph.initializers["w0"].const_value
assert isinstance(kept, ir.ExternalTensor) and kept.location == "w0", kept
print(sum(v.const_value.nbytes for v in phase.model.graph.initializers.values()))
# ru_maxrss would have the peak of the process that started this one, too.
status = Path("/proc/self/status").read_text()
print(1024 * int(status.partition("VmHWM:")[2].split()[0]))
"""


def test_weights_of_15_gb_are_not_loaded(fix: str, tmp_path: Path) -> None:
    """Under 1 GB of memory; the files are sparse, and reading one would take its size."""
    count, width = 60, 8000
    for number in range(count):
        with (tmp_path / f"w{number}").open("wb") as file:
            file.truncate(4 * width * width)
    command = [sys.executable, "-c", _LARGE, str(tmp_path), str(count), str(width), fix]
    found = {**os.environ, "PYTHONPATH": ":".join([str(Path(__file__).parents[1]), *sys.path])}
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=found)
    assert run.returncode == 0, run.stderr
    weights, peak = map(int, run.stdout.split())
    assert weights > 15e9
    assert peak < 1e9


def test_it_is_in_the_pipeline(fix: str) -> None:
    """As `--surgery fix.py:twice` has it."""
    from dataclasses import replace

    from vlacut.compiler.target import Target
    from vlacut.errors import InputError

    target = Target("a100", "a100", "10GB/s,0us", surgery=(f"{fix}:twice",))
    target.check()
    text = pipeline_for(target)
    assert text.startswith("simplify,surgery{file=")
    assert "function=twice" in text
    with pytest.raises(InputError, match=r"--surgery: 'fix:me': write FILE\.py:FUNCTION"):
        replace(target, surgery=("fix:me",)).check()


README = Path(__file__).parents[2] / "backends" / "README.md"
_GATED = """
def gated(graph):
    for node in [node for node in graph.nodes if node.op == "Tanh"]:
        gate = gs.Variable(node.name + "_gate", np.float32, (1, 64))
        graph.nodes.append(gs.Node("Sigmoid", node.name + "_s", inputs=node.inputs, outputs=[gate]))
        node.op, node.inputs = "Mul", [node.inputs[0], gate]
    return graph
"""


def test_the_examples_do_what_they_say(tmp_path: Path) -> None:
    block = README.read_text().partition("```python\nimport onnx_graphsurgeon")[2]
    code = "import numpy as np\nimport onnx_graphsurgeon" + block.partition("```")[0] + _GATED
    (tmp_path / "fix.py").write_text(code)
    file = str(tmp_path / "fix.py")
    program = looping_program()
    Surgery(file=file, function="gated").run(program)
    wanted = run_whole(program, observation(program))
    Surgery(file=file, function="show_gates", phase="encode").run(program)
    verifier.verify(program)
    assert len(program.phases[0].output_names) == 2
    made = run_whole(program, observation(program))
    np.testing.assert_array_equal(made["action"], wanted["action"])
    Surgery(file=file, function="swish", phase="decode").run(program)
    verifier.verify(program)
    kinds = [(node.domain, node.op_type) for node in program.phases[1].model.graph]
    assert ("mine", "SwishPlugin") in kinds
    assert ("", "Sigmoid") not in kinds
