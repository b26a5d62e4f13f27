"""real-time-chunking: against the formula, bit-equal without a chunk, on either side of a cut."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from support.commands import Vlacut
from support.control import TICK_NS, cycle_of
from support.cutting import run_whole
from support.deployments import deployed, served
from support.flows import LENGTH, STEPS, WIDTH, flow_observation, flow_program, velocity
from support.programs import random_program
from support.proxy import wait_until

from vlacut import ControlLoop
from vlacut.compiler.driver import compile_program
from vlacut.compiler.target import Target
from vlacut.control.inferring.virtual import Course
from vlacut.control.report import CommandReport
from vlacut.control.rtc import GUIDANCE, PREV_CHUNK, WEIGHTS, guidance_of, prefix_weights
from vlacut.control.ways.chunk import ChunkSpec
from vlacut.errors import InputError, PassError
from vlacut.ir import verifier
from vlacut.ir.program import Phase, Program
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.local import run_both
from vlacut.tensor import TensorSpec
from vlacut_passes.real_time_chunking import RealTimeChunking

DIGEST = bytes(range(32))


def continued(mode: str, **options: object) -> Program:
    program = flow_program()
    RealTimeChunking(mode, **options).run(program)  # type: ignore[arg-type]
    verifier.verify(program)
    return program


def chunk_in_force(program: Program, weights: np.ndarray, seed: int = 1) -> dict[str, np.ndarray]:
    prev = np.random.default_rng(seed).standard_normal((1, LENGTH, WIDTH))
    made = {PREV_CHUNK: prev.astype(np.float32), WEIGHTS: weights.astype(np.float32)}
    if GUIDANCE in [spec.name for spec in program.inputs]:
        made[GUIDANCE] = guidance_of(STEPS).astype(np.float32)
    return made


@pytest.mark.parametrize("mode", ["guided", "prefix"])
def test_without_weights_the_bits_are_those_of_the_plain_program(mode: str) -> None:
    program = continued(mode, **({"time": "time"} if mode == "prefix" else {}))
    for seed in range(4):
        observed = flow_observation(seed)
        observed["noise"][0, 0, 0] = -0.0
        nothing = chunk_in_force(program, np.zeros(LENGTH), seed)
        nothing[PREV_CHUNK][0, 1] = np.inf  # what no weight reaches is not looked at
        plain = run_whole(flow_program(), observed)["action"]
        made = run_whole(program, observed | nothing)["action"]
        assert made.tobytes() == plain.tobytes()


def test_the_guidance_is_the_formula() -> None:
    """The velocity less g w (prev - (x - t v)), in every Euler step from t = 1 to 0."""
    program, observed = continued("guided"), flow_observation(3)
    weights = prefix_weights(LENGTH, 2, 5, hard=False)
    given = chunk_in_force(program, weights)
    x, time = observed["noise"].astype(np.float64), observed["time"].astype(np.float64)
    for step in range(STEPS):
        t = 1 - step / STEPS
        tau = 1 - t
        with np.errstate(divide="ignore"):
            g = np.minimum(
                5.0, np.divide(1 - tau, tau) * ((1 - tau) ** 2 + tau**2) / (1 - tau) ** 2
            )
        v = velocity(program, x, time, observed["image"])
        v = v - g * weights[:, None] * (given[PREV_CHUNK] - (x - t * v))
        x, time = x - v / STEPS, time - 1 / STEPS
    made = run_whole(program, observed | given)["action"]
    np.testing.assert_allclose(made, x, atol=2e-5)
    plain = run_whole(flow_program(), observed)["action"]
    apart = np.abs(made - given[PREV_CHUNK]).mean(axis=2)[0]
    before = np.abs(plain - given[PREV_CHUNK]).mean(axis=2)[0]
    assert (apart[:2] < 0.3 * before[:2]).all()  # what is executed meanwhile is what was in force
    np.testing.assert_array_equal(made[0, 5], plain[0, 5])


def test_a_hard_prefix_is_kept_and_told_to_every_step() -> None:
    program, observed = continued("prefix", time="time"), flow_observation(4)
    weights = prefix_weights(LENGTH, 3, LENGTH, hard=True)
    given = chunk_in_force(program, weights)
    made = run_whole(program, observed | given)["action"]
    np.testing.assert_array_equal(made[0, :3], given[PREV_CHUNK][0, :3])
    x, time = observed["noise"].astype(np.float64), observed["time"].astype(np.float64)
    fixed = weights[None, :, None] > 0
    for step in range(STEPS):
        x = np.where(fixed, given[PREV_CHUNK], x)
        v = velocity(program, x, np.where(fixed, 0.0, 1 - step / STEPS), observed["image"])
        x = x - v / STEPS
    np.testing.assert_allclose(made[0, 3:], x[0, 3:], atol=2e-5)
    assert time.shape == (1, LENGTH, 1)


@pytest.mark.parametrize("mode", ["guided", "prefix"])
@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_same_on_either_side_of_a_cut(mode: str, seed: int) -> None:
    program = continued(mode)
    observed = flow_observation(seed) | chunk_in_force(program, np.linspace(1, 0, LENGTH))
    whole = run_whole(program, observed)["action"]
    plan, engines = deployed(program, seed)
    cut = run_both(plan, engines, 0, observed)["action"]
    assert cut.tobytes() == whole.tobytes()


@pytest.mark.parametrize(
    ("program", "options", "said"),
    [
        (flow_program, {"mode": "hope"}, "has the modes"),
        (flow_program, {"output": "acton"}, "did you mean action"),
        (lambda: flow_program(1), {}, "no loop carries action"),
        (lambda: random_program(0), {}, "no loop carries"),
        (flow_program, {"axis": 5}, "no axis 5"),
        (flow_program, {"mode": "prefix", "time": "tim"}, "no input 'tim'"),
        (flow_program, {"mode": "prefix", "time": "features"}, "no time for each"),
    ],
)
def test_what_has_no_such_loop_is_refused(program: object, options: dict, said: str) -> None:
    with pytest.raises(PassError, match=said):
        RealTimeChunking(**options).run(program())  # type: ignore[operator]


SCALED = """
    cut = Slice (denoised, first, last, axes)
    wide = Mul (cut, deviation)
    moved = Add (wide, mean)
    action = Gather <axis: int = 0> (moved, zero)"""
SPREAD = """
    raised = Add (denoised, one)
    half = Div (raised, two)
    turned = Sub (one, half)
    cut = Slice (turned, first, last, axes)
    action = Squeeze (cut, zeros)"""
CUT = slice(1, 4)


def finished(behind: str) -> Program:
    """The flow, with a phase behind it that cuts its chunk and takes it to a robot's units."""
    program = flow_program()
    loop = program.phases[-1]
    for value in loop.model.graph.outputs:
        value.name = "denoised" if value.name == "action" else value.name
    carried = {"denoised": "noise", "time.next": "time"}
    text = f"""<ir_version: 10, opset_import: ["": 20]> finish
        (float[1,{LENGTH},{WIDTH}] denoised) => (float[{LENGTH},3] action)
        <float[3] deviation = {{2.0, 0.0, 0.5}}, float[3] mean = {{1.0, -1.0, 0.0}},
         float one = {{1.0}}, float two = {{2.0}}, int64 zero = {{0}}, int64[1] zeros = {{0}},
         int64[1] first = {{1}}, int64[1] last = {{4}}, int64[1] axes = {{2}}> {{{behind}
        }}"""
    model = onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text))
    for node in model.graph.node:
        node.name = node.output[0]
    return Program(
        "finished",
        (
            *program.phases[:-1],
            Phase("denoise", loop.model, loop.trips, carried),
            Phase("finish", ir.from_proto(model)),
        ),
        program.inputs,
        (TensorSpec("action", "float32", (LENGTH, 3)),),
    )


@pytest.mark.parametrize("mode", ["guided", "prefix"])
@pytest.mark.parametrize("behind", [SCALED, SPREAD])
def test_a_chunk_in_the_robot_s_units_is_the_loop_s_again(behind: str, mode: str) -> None:
    """As the plain loop with the chunk in its own numbers, and zeros in columns cut off."""
    program, plain = finished(behind), continued(mode)
    RealTimeChunking(mode).run(program)
    verifier.verify(program)
    inside = np.random.default_rng(7).standard_normal((1, LENGTH, WIDTH)).astype(np.float32)
    inside[..., [0]] = 0  # is cut off
    if behind == SCALED:
        inside[..., 2] = 0  # a deviation of 0 leaves nothing of it
        outside = inside[0, :, CUT] * [2.0, 0.0, 0.5] + [1.0, -1.0, 0.0]
    else:
        outside = 1 - (inside[0, :, CUT] + 1) / 2
    given = chunk_in_force(plain, np.linspace(1, 0, LENGTH))
    wanted = run_whole(plain, flow_observation(2) | given | {PREV_CHUNK: inside})["action"]
    told = given | {PREV_CHUNK: outside.astype(np.float32)}
    made = run_whole(program, flow_observation(2) | told)["action"]
    cut = wanted[0, :, CUT]
    scaled = cut * [2.0, 0.0, 0.5] + [1.0, -1.0, 0.0] if behind == SCALED else 1 - (cut + 1) / 2
    np.testing.assert_allclose(made, scaled, atol=1e-5)
    nothing = {name: np.zeros_like(array) for name, array in told.items()}
    alone = run_whole(finished(behind), flow_observation(2))["action"]
    assert run_whole(program, flow_observation(2) | nothing)["action"].tobytes() == alone.tobytes()


def test_what_cannot_be_undone_is_refused_by_its_name() -> None:
    bent = SCALED.replace("moved = Add (wide, mean)", "moved = Tanh (wide)")
    with pytest.raises(PassError, match="Tanh in phase finish cannot be undone; denoise carries"):
        RealTimeChunking().run(finished(bent))


def test_a_loop_that_is_no_flow_is_not_guided() -> None:
    """Where it ends if it goes on as in this step is not known of it."""
    program = flow_program()
    [euler] = [node for node in program.phases[-1].model.graph if node.name == "euler"]
    euler.replace_input_with(0, euler.inputs[1])
    with pytest.raises(PassError, match="as a flow does"):
        RealTimeChunking().run(program)


def test_inputs_that_are_there_already_are_not_taken() -> None:
    program = continued("guided")
    with pytest.raises(PassError, match="already"):
        RealTimeChunking().run(program)


def test_weights_fall_from_what_is_executed_to_what_is_known() -> None:
    soft = prefix_weights(10, 3, 8, hard=False)
    assert (soft[:3] == 1).all()
    assert (np.diff(soft[2:9]) < 0).all()
    assert (soft[8:] == 0).all()
    assert prefix_weights(10, 3, 8, hard=True).tolist() == [1] * 3 + [0] * 7
    assert not prefix_weights(10, 3, 0, hard=False).any()
    assert prefix_weights(4, 9, 4, hard=True).tolist() == [1] * 4


def answered(loop: ControlLoop) -> bool:
    """Whether the inference in flight ends in time; it is taken over at the next tick."""
    return wait_until(lambda: loop.last.in_flight is None or not loop._worker._made.empty())


def test_a_loop_tells_its_policy_of_the_chunk_in_force() -> None:
    """Through the real session: a chunk is entered by the commands executed since its observation,
    and the command that was executed meanwhile is what was in force.
    """
    program = continued("prefix")
    plan, engines = deployed(program, 2)
    reports: list[CommandReport] = []
    now = [1]
    with (
        served(plan, engines) as server,
        EdgeSession(plan, DIGEST, engines, server.address) as policy,
        ControlLoop(
            policy,
            "action",
            20,
            "periodic",
            executor="rtc",
            period_s=0.1,
            clock=lambda: now[0],
        ) as loop,
    ):
        loop.prime(flow_observation(0))
        for tick in range(16):
            now[0] += TICK_NS
            loop.tick(flow_observation(tick))
            reports.append(loop.last)
            assert answered(loop)
    chunks = [report.inference for report in reports]
    seams = [place for place in range(1, 16) if chunks[place] != chunks[place - 1]]
    assert len(seams) > 2
    assert {reports[place].index for place in seams} == {1}


@pytest.mark.parametrize("executor", ["rtc", "async"])
def test_the_commands_meanwhile_are_those_in_force(executor: str) -> None:
    """In virtual time: with a hard prefix there is no jump at a seam while the delay is as said."""
    program = continued("prefix")
    cycle = cycle_of(
        lambda *_: Course(0, 0.1),
        executor=executor,
        expected=(0.1,),
        make=lambda inference, _: run_whole(program, dict(inference.observation)),
        spec=ChunkSpec("action"),
        output=program.outputs[0],
        inputs={spec.name: spec for spec in program.inputs},
    )
    jumps: list[float] = []
    before, in_force = None, np.zeros((0, WIDTH))
    for tick in range(30):
        observed = flow_observation(tick)
        if executor == "async":  # it tells its policy nothing
            observed |= chunk_in_force(program, np.zeros(LENGTH))
        report = cycle.tick(observed, tick * TICK_NS, tick * TICK_NS)
        chunk = cycle.newest
        if chunk is None:
            continue
        if before is not None and chunk is not before:
            jumps.append(float(np.abs(chunk.commands[:2] - in_force).max()))
        if report.asked is not None:
            in_force = chunk.commands[report.index :][:2]
        before = chunk
    assert len(jumps) > 3
    assert max(jumps) < 1e-6 if executor == "rtc" else min(jumps) > 1e-3


def test_a_policy_that_takes_no_chunk_cannot_continue_one() -> None:
    plan, engines = deployed(flow_program(), 2)
    with (
        served(plan, engines) as server,
        EdgeSession(plan, DIGEST, engines, server.address) as policy,
        pytest.raises(InputError, match="--real-time-chunking"),
    ):
        ControlLoop(policy, "action", 20, executor="rtc")


def test_compiled_with_the_option(vlacut: Vlacut, tmp_path: Path) -> None:
    target = Target("jetson-agx-orin", "a100", "1MB/s,5ms", real_time_chunking="guided")
    planned, bundle = compile_program(flow_program(), target, tmp_path / "flow.vlacut")
    assert "real-time-chunking{" in planned.pipeline or "real-time-chunking" in planned.pipeline
    assert {PREV_CHUNK, WEIGHTS, GUIDANCE} <= {spec.name for spec in bundle.plan.inputs}
    golden = bundle.golden("observation")
    assert not golden[WEIGHTS].any()
    status, out, _ = vlacut("verify", bundle.root, "--json")
    assert status == 0
    assert json.loads(out)
