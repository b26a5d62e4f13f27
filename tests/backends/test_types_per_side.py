"""Each side in its own element types: programs of bfloat16 whose one side computes in float32, over
real sockets, with one type on the wire.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.deployments import DIGEST, initial_of, pool_deployment, served
from support.mixed import BOTH_WAYS, Maker
from support.precisions import policy, slow_memory
from support.programs import observation, random_program, random_stateful
from support.proxy import DOWN, UP, Fault, Proxy

import vlacut as package
from vlacut.backend import Engine
from vlacut.bundle.opened import Bundle
from vlacut.compiler.backends import parse_backends
from vlacut.compiler.conversions import Conversions
from vlacut.compiler.target import Target
from vlacut.errors import VlacutError
from vlacut.hardware import Side, load_device
from vlacut.ir.dataflow import trace_dataflow
from vlacut.ir.graphs import operators
from vlacut.ir.pipeline import parse_pipeline
from vlacut.ir.program import Program, copied
from vlacut.plans.plan import Plan
from vlacut.pricing.border import conversion_s
from vlacut.pricing.price import price
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.verification import CUT, verify_bundle
from vlacut.tensor.numerics import readable, relative_difference

pytest.importorskip("torch")
LAST_PLACES = 8 * 2.0**-7  # of bfloat16, as back ends allow
PAIRS = ("edge=onnxruntime,cloud=torch", "edge=torch,cloud=onnxruntime")
pairs = pytest.mark.parametrize("backend", PAIRS, ids=["torch-serves", "torch-drives"])
FLOAT32 = {"bfloat16": "float32"}


def in_bfloat16(program: Program) -> Program:
    """As a checkpoint of bfloat16 is traced."""
    parse_pipeline("convert-types{source=float32 target=bfloat16}").run(program)
    return program


def wide(backend: str) -> Side:
    """The side that computes in float32."""
    return Side.EDGE if "edge=onnxruntime" in backend else Side.CLOUD


def cut(folder: Path, backend: str, link: str = "1GB/s,0us", **options: str) -> Bundle:
    """Two phases, the first on the robot, the second, a loop, on the server."""
    return package.compile(
        in_bfloat16(policy(folder)),
        edge=slow_memory(folder),
        cloud="a100",
        link=link,
        out=folder / "b",
        pin=("encode*=edge", "denoise*=cloud"),
        backend=backend,
        **options,  # type: ignore[arg-type]
    )


@contextmanager
def serving(bundle: Bundle) -> Iterator[tuple[str, int]]:
    server = package.serve(bundle.root)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.address
    finally:
        server.shutdown()
        thread.join()


def at(address: tuple[str, int]) -> str:
    return "{}:{}".format(*address)


@pairs
def test_each_side_has_its_own_types_and_the_wire_one(backend: str, tmp_path: Path) -> None:
    bundle = cut(tmp_path, backend)
    side, plan = wide(backend), bundle.plan
    assert plan.spec["encode/memory"].dtype == "bfloat16"  # crosses, at two bytes a number
    assert {spec.dtype for spec in plan.inputs} == {"float32"}  # what numpy has
    for part in plan.parts:
        grown = part.side is side
        assert all(name.endswith("@float32") is grown for name in part.weights)
    names = {part.side: part.weight_bytes for part in plan.parts}
    assert names[Side.EDGE] == (96 * 128 + 128 * 128) * (4 if side is Side.EDGE else 2)
    assert names[Side.CLOUD] == 2 * 128 * 128 * (4 if side is Side.CLOUD else 2)
    chosen = plan.variants[0].price
    assert (chosen.edge_codec_s > 0, chosen.cloud_codec_s > 0) == (
        side is Side.EDGE,
        side is Side.CLOUD,
    )
    assert bundle.manifest.tolerances == dict.fromkeys(("edge", "cloud"), LAST_PLACES)
    results = verify_bundle(bundle)
    assert all(one.passed for one in results)
    golden, observed = bundle.golden("action"), bundle.golden("observation")
    with (
        serving(bundle) as address,
        package.connect(bundle.root, at(address), selector="chosen") as robot,
    ):
        errors = [relative_difference(robot.step(observed), golden) for _ in range(3)]
        assert robot.last.source.value == "chosen"
    assert 0 < max(errors) <= LAST_PLACES


@pairs
def test_codecs_and_precisions_across_two_types(backend: str, tmp_path: Path) -> None:
    bundle = cut(tmp_path, backend, "10kB/s,1ms", codecs="int8")
    (chosen,) = bundle.plan.variants
    assert {one.tensor for one in chosen.coded} >= {"encode/memory"}
    assert chosen.action_error.measured is not None  # the gauge runs bfloat16, too
    assert all(one.passed for one in verify_bundle(bundle))


@pairs
def test_precision_bfloat16_where_one_side_has_it(backend: str, tmp_path: Path) -> None:
    """Products are of bfloat16 where the executor has them, and of float32 on the other side."""
    bundle = package.compile(
        policy(tmp_path),
        edge=slow_memory(tmp_path),
        cloud="a100",
        link="1GB/s,0us",
        out=tmp_path / "b",
        pin=("encode*=edge", "denoise*=cloud"),
        backend=backend,
        precisions="bfloat16",
    )
    found = [one for one in verify_bundle(bundle) if one.comparison == CUT]
    assert all(one.passed for one in found)
    made = {part.name: part for part in bundle.plan.parts if part.name.endswith("@bfloat16")}
    assert made
    for part in made.values():
        grown = all(name.endswith("@float32") for name in part.weights)
        assert grown is (part.side is wide(backend))


@pairs
def test_a_fault_leaves_no_wrong_action(backend: str, tmp_path: Path) -> None:
    strike(cut(tmp_path, backend), ("corrupt",))


@pytest.mark.slow
@pairs
def test_faults_leave_no_wrong_action(backend: str, tmp_path: Path) -> None:
    strike(cut(tmp_path, backend), ("cut", "reset", "corrupt", "drop", "duplicate"))


def strike(bundle: Bundle, kinds: tuple[str, ...]) -> None:
    """Faults on the way, up and down in turn: no action is wrong, and steps come through again."""
    golden, observed = bundle.golden("action"), bundle.golden("observation")
    with (
        serving(bundle) as address,
        Proxy(address) as proxy,
        package.connect(bundle.root, at(proxy.address), selector="chosen") as robot,
    ):
        for number, kind in enumerate(kinds):
            proxy.arm(Fault(kind, (UP, DOWN)[number % 2], 40))
            for _ in range(200):
                try:
                    action = robot.step(observed)
                except VlacutError:
                    continue
                assert relative_difference(action, golden) <= LAST_PLACES
                if proxy.struck > number and robot.last.source.value == "chosen":
                    break
            else:
                pytest.fail(f"{kind}: no step came through again")


@pytest.mark.parametrize("names", BOTH_WAYS, ids=["torch-serves", "torch-drives"])
@pytest.mark.parametrize("seed", range(3))
def test_pools_cut_at_random(names: dict[Side, str], seed: int, tmp_path: Path) -> None:
    """Loops, branches and state; the side of ONNX Runtime has what stays there in float32."""
    exact = random_stateful(seed) if seed % 2 else random_program(seed)
    program = in_bfloat16(copied(exact))
    parse_pipeline("convert-types{source=bfloat16 target=float32 keep=inside}").run(program)
    types = {side: FLOAT32 for side in Side if names[side] == "onnxruntime"}
    (tmp_path / "parts").mkdir()
    maker = Maker(tmp_path / "parts", names)
    plan, engines = pool_deployment(program, seed, make=maker, types=types)
    seen = [observation(exact, number) for number in range(3)]
    right = _driven(*pool_deployment(copied(exact), seed), exact, seen)[0]
    for made in _driven(plan, engines, program, seen):
        for action, reference in zip(made, right, strict=True):
            assert relative_difference(action, reference) <= 2 * LAST_PLACES
    sent = {
        key for one in plan.variants for item in (*one.first, *one.schedule) for key in _sent(item)
    }
    assert {plan.spec[name].dtype for name in sent} <= {"bfloat16", "float32"}


def _driven(
    plan: Plan, engines: dict[str, Engine], program: Program, seen: list[dict[str, np.ndarray]]
) -> list[list[dict[str, np.ndarray]]]:
    """The actions of an episode by every variant."""
    found = []
    for variant in plan.variants:
        one, initial = replace(plan, variants=(variant,)), initial_of(program)
        with (
            served(one, engines, initial=initial) as server,
            EdgeSession(one, DIGEST, engines, server.address, initial=initial) as session,
        ):
            found.append([{**session.step(observed)} for observed in seen])
    return found


def _sent(item: object) -> tuple[str, ...]:
    body = getattr(item, "body", (item,))
    return tuple(key for one in body for key in getattr(one, "tensors", ()))


def test_the_price_has_the_border_and_the_wider_side(tmp_path: Path) -> None:
    """Seconds of the side in its type, bytes of its weights, and the casts of what crosses."""
    program = in_bfloat16(policy(tmp_path))
    asked = Target("jetson-orin-nx", "a100", "1GB/s,0us")
    plain = copied(program)
    passes = "annotate-cost{edge=jetson-orin-nx cloud=a100"
    parse_pipeline(passes + "}").run(plain)
    parse_pipeline(passes + " edge-types=bfloat16:float32}").run(program)
    graph, before = (trace_dataflow(one).cost_graph() for one in (program, plain))
    assert graph.bytes_on(Side.CLOUD) == before.weights
    assert graph.bytes_on(Side.EDGE) == tuple(2 * one for one in before.weights)
    assert sum(one.edge_s for one in graph.tasks) > sum(one.edge_s for one in before.tasks)
    assert [one.cloud_s for one in graph.tasks] == [one.cloud_s for one in before.tasks]
    encoded = len(operators(program.phases[0].model.graph))
    sides = [Side.EDGE if 0 <= task <= encoded else Side.CLOUD for task in range(len(graph.tasks))]
    sides[-1] = Side.EDGE
    link = asked.network()
    cost, old = price(graph, sides, link), price(before, sides, link)
    assert cost.cloud_codec_s == 0 == old.edge_codec_s
    sent = {flow.name: flow for flow in graph.flows if flow.producer == encoded}
    (memory,) = sent.values()
    spec = trace_dataflow(program).specs[memory.name]
    assert memory.edge_border_s == conversion_s(spec, "float32", load_device("jetson-orin-nx"))
    assert cost.edge_codec_s >= memory.edge_border_s > 0
    assert cost.edge_weight_bytes == 2 * old.edge_weight_bytes
    assert cost.cloud_weight_bytes == old.cloud_weight_bytes


def test_what_is_converted_on_which_side(tmp_path: Path) -> None:
    program = in_bfloat16(policy(tmp_path))
    assert parse_backends("onnxruntime").conversions(program) == Conversions(both=FLOAT32)
    assert parse_backends("torch").conversions(program) == Conversions()
    assert parse_backends(PAIRS[0]).conversions(program) == Conversions(
        ends=FLOAT32, sides={Side.EDGE: FLOAT32}
    )
    plain = policy(tmp_path)
    assert parse_backends(PAIRS[1]).conversions(plain) == Conversions()
    assert parse_backends(PAIRS[1]).conversions(plain, "bfloat16") == Conversions(
        sides={Side.CLOUD: FLOAT32}
    )


def test_arrays_of_bfloat16_are_compared_as_numbers() -> None:
    bits = np.array([0x3F80, 0x8000, 0xC000], np.uint16)
    np.testing.assert_array_equal(readable(bits, "bfloat16"), [1.0, -0.0, -2.0])
    assert readable(bits, "uint16") is bits
