"""Slips in the names of a program: each warned of once, with what was probably meant."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from onnx.parser import parse_model
from onnx_ir import from_proto
from support.programs import TARGET
from support.torch_models import denoiser

import vlacut as library
from vlacut.compiler.planning import plan_program
from vlacut.ir.bindings import doubtful_bindings
from vlacut.ir.program import Phase, Program
from vlacut.ir.rewriting import name_uniquely
from vlacut.ir.state import State
from vlacut.tensor import TensorSpec

_HEAD = '<ir_version: 10, opset_import: ["": 20]> '


def phase(name: str, graph: str, trips: int = 1, **carried: str) -> Phase:
    """A phase of a graph in ONNX's text, its tensors `float[4]`."""
    text = _HEAD + "g " + graph.replace(":", " float[4]")
    model = from_proto(parse_model(text))
    name_uniquely(model, name)
    return Phase(name, model, trips, carried)


def policy(read: str = "next_tokens", trips: int = 6, **carried: str) -> Program:
    """Prefill, a loop of decodes, and what makes the action of their tokens."""
    decode = "(: tokens, : cache) => (: next_tokens, : next_cache)"
    first = "tokens = Abs(image) cache = Neg(image)"
    body = "{ next_tokens = Tanh(tokens) next_cache = Add(cache, tokens) }"
    phases = (
        phase("prefill", f"(: image) => (: tokens, : cache) {{ {first} }}"),
        phase("decode", f"{decode} {body}", trips, **carried),
        phase("detokenize", f"(: {read}) => (: action) {{ action = Sqrt({read}) }}"),
    )
    specs = [TensorSpec(name, "float32", (4,)) for name in ("image", "action")]
    return Program("policy", phases, (specs[0],), (specs[1],))


RIGHT = {"next_tokens": "tokens", "next_cache": "cache"}


def test_what_is_meant_so_is_not_warned_of() -> None:
    assert not list(doubtful_bindings(policy(**RIGHT)))
    assert not list(doubtful_bindings(policy(trips=1)))
    assert not list(doubtful_bindings(denoiser()[1]))


def test_what_the_next_step_reads_is_read() -> None:
    recur = phase("recur", "(: x, : h) => (: y, : next_h) { y = Add(x, h) next_h = Tanh(y) }")
    keep = phase("keep", "(: next_h) => (: kept) { kept = Neg(next_h) }")
    specs = [TensorSpec(name, "float32", (4,)) for name in ("x", "y")]
    one = Program("recurrent", (recur, keep), (specs[0],), (specs[1],), state=(State("kept", "h"),))
    assert not list(doubtful_bindings(one))
    goal = Phase("goal", phase("goal", "(: x) => (: h) { h = Neg(x) }").model, when="reset")
    two = Program("goal", (goal, recur), (specs[0],), (specs[1],))
    assert not list(doubtful_bindings(two))


def test_a_phase_that_nothing_reads_is_named_with_what_was_meant() -> None:
    unread, before = doubtful_bindings(policy("tokens", **RIGHT))
    assert unread == (
        "phase decode: nothing reads what it makes (next_tokens, next_cache), so it does not run; "
        "did detokenize mean next_tokens where it reads tokens?"
    )
    assert before == (
        "phase detokenize reads tokens as it was before decode; did you mean next_tokens, which "
        "decode leaves?"
    )


def test_a_loop_that_carries_nothing_says_what_it_might() -> None:
    (said,) = doubtful_bindings(policy())
    assert said == (
        "phase decode runs 6 times and carries nothing, so every trip computes the same; did you "
        "mean carried = { next_tokens = 'tokens', next_cache = 'cache' }?"
    )


def test_an_input_that_stays_beside_an_output_of_its_name() -> None:
    (said,) = doubtful_bindings(policy(next_tokens="tokens"))
    assert "cache is the same in every trip, and next_cache is not carried" in said


def test_names_that_differ_by_a_number_are_not_alike() -> None:
    loop = "(: x, : key.0) => (: y, : key.1) { y = Add(x, key.0) key.1 = Neg(x) }"
    program = policy(**RIGHT)
    phases = (phase("loop", loop.replace("key.", "key_"), 3, y="x"),)
    specs = [TensorSpec(name, "float32", (4,)) for name in ("x", "key_0")]
    made = Program("keys", phases, tuple(specs), (TensorSpec("y", "float32", (4,)),))
    assert not list(doubtful_bindings(made))
    assert program.phases[1].carried == RIGHT


def test_they_are_warnings_of_a_plan_and_are_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert "carries nothing" in plan_program(policy(), TARGET).warnings[0]
    with caplog.at_level(logging.WARNING, "vlacut"):
        library.compile(policy(), out=tmp_path / "b", **vars(TARGET))
    assert "carries nothing" in caplog.text
