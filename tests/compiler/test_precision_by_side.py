"""A precision of its own for each side: rounded where it runs, priced, and run over a link."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from support.onnx_text import write
from support.precisions import policy, slow_memory

import vlacut
from vlacut.bundle.opened import Bundle
from vlacut.compiler.precision_list import BySide, parse_precisions
from vlacut.errors import InputError
from vlacut.frontends.load import load_program
from vlacut.hardware import Side
from vlacut.runtime.verification import verify_bundle
from vlacut.tensor.numerics import relative_difference

NAME = "edge=w4a16+cloud=float"
ENDS = "encode*=edge", "denoise*=cloud"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("sides")
    return vlacut.compile(
        policy(folder),
        edge=slow_memory(folder),
        cloud="a100",
        link="1GB/s,0.1ms",
        out=folder / "policy.vlacut",
        precisions=f"int4,{NAME}",
        pin=ENDS,
    )


def test_each_side_is_in_its_own(bundle: Bundle) -> None:
    plain, four, sided = bundle.plan.variants
    assert sided.precision == NAME
    (edge,), (cloud,) = (bundle.plan.variant_parts(sided, side) for side in Side)
    assert all(".int4." in name for name in edge.weights)
    assert (cloud,) == tuple(bundle.plan.variant_parts(plain, Side.CLOUD))  # the very same part
    assert sided.price.edge_s == pytest.approx(four.price.edge_s)
    assert sided.price.cloud_s == pytest.approx(plain.price.cloud_s)
    errors = [one.action_error.measured for one in (plain, sided, four)]
    assert errors[0] == 0.0
    assert None not in errors
    assert 0.0 < errors[1] < errors[2]  # type: ignore[operator]
    assert all(one.passed for one in verify_bundle(bundle))


def test_steps_switch_to_it_over_a_link(bundle: Bundle) -> None:
    server = vlacut.serve(bundle.root)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    wanted, observed = bundle.golden("action"), bundle.golden("observation")
    try:
        address = "{}:{}".format(*server.address)
        for name in ("chosen", f"chosen@{NAME}"):
            with vlacut.connect(bundle.root, address, selector=name) as robot:
                found = relative_difference(robot.step(observed), wanted)
            assert robot.last.variant == name
            allowed = bundle.plan.variants[2].action_error.allowed
            assert allowed is not None
            assert found == 0.0 if name == "chosen" else 0.0 < found <= allowed
    finally:
        server.shutdown()
        thread.join(30)


def test_a_gemm_is_rounded_where_it_runs(tmp_path: Path) -> None:
    """It becomes a product and a sum; with a bias, and its weight turned over."""
    numbers = np.random.default_rng(0)
    weights = {
        name: numbers.normal(size=shape).astype(np.float32)
        for name, shape in (("a", (96, 64)), ("b", (96,)), ("c", (64, 96)), ("d", (64,)))
    }
    body = """main (float[1,64] x) => (float[1,64] y) {
        h = Gemm<transB = 1>(x, a, b)
        k = Relu(h)
        y = Gemm<transB = 1>(k, c, d)
    }"""
    program = load_program(str(write(tmp_path / "two.onnx", body, weights)))
    first, last = (str(program.phases[0].model.graph[index].name) for index in (0, 2))
    planned = vlacut.plan(
        program,
        edge=slow_memory(tmp_path),
        cloud="a100",
        link="1GB/s,0.1ms",
        pin=(f"{first}=edge", f"{last}=cloud"),
        precisions="edge=w4a8+cloud=w8a8",
    )
    *_, sided = planned.plan.variants
    edge, cloud = (
        {name for part in planned.plan.variant_parts(sided, side) for name in part.weights}
        for side in Side
    )
    assert any("a.int4" in name for name in edge)
    assert any("c.int8" in name for name in cloud)
    assert not any("int8" in name for name in edge)


def test_a_side_with_nothing_to_round_stays_as_it_is(tmp_path: Path) -> None:
    """What the edge has is too small, and is rounded in no precision."""
    numbers = np.random.default_rng(0)
    weights = {
        name: numbers.normal(size=shape).astype(np.float32)
        for name, shape in (("a", (16, 96)), ("b", (96, 64)))
    }
    body = """main (float[1,16] x) => (float[1,64] y) {
        h = MatMul(x, a)
        k = Relu(h)
        y = MatMul(k, b)
    }"""
    program = load_program(str(write(tmp_path / "two.onnx", body, weights)))
    first, last = (str(program.phases[0].model.graph[index].name) for index in (0, 2))
    planned = vlacut.plan(
        program,
        edge=slow_memory(tmp_path),
        cloud="a100",
        link="1GB/s,0.1ms",
        pin=(f"{first}=edge", f"{last}=cloud"),
        precisions="edge=w4a8+cloud=w8a8,edge=w4a8",
    )
    assert planned.converted == (
        "edge=w4a8+cloud=w8a8: edge: nothing to int4; cloud: 1 products to int8; "
        "edge=w4a8: edge: nothing to int4"
    )


def test_names_by_side() -> None:
    made = parse_precisions("edge=w4a16+cloud=float,cloud=int8")
    assert made == {
        "edge=w4a16+cloud=float": BySide("quantise{weights=int4 activations=float}", ""),
        "cloud=int8": BySide("", "quantise{weights=int8}"),
    }
    assert not parse_precisions("edge=float,edge=float+cloud=float")
    (text,) = parse_precisions("int8", {"calibration": "seen.npz"}).values()
    assert text == "quantise{weights=int8 phases= calibration=seen.npz}"
    for wrong in ("edge=int3", "edge=int4+edge=int8", "edge=int4+decode=int4", "edge=float16"):
        with pytest.raises(InputError, match="is no precision by side; write float or int8"):
            parse_precisions(wrong)
