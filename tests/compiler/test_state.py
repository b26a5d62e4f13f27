"""Policies that remember, from torch to a served bundle, beside the policies themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.deployments import serving_thread
from support.remembering import FRAMES, SIDE, TOKENS, WIDTH, history_program, instructed_program

import vlacut
from vlacut.bundle.opened import Bundle
from vlacut.hardware import Side
from vlacut.plans.state import StateRule
from vlacut.runtime.verification import verify_bundle


def compiled(program: vlacut.ir.program.Program, out: Path, **options: object) -> Bundle:
    target = {"edge": "jetson-agx-orin", "cloud": "a100", "link": "10GB/s,0us"}
    return vlacut.compile(program, out=out, **{**target, **options})


def image(number: int) -> np.ndarray:
    numbers = np.random.default_rng(number)
    return numbers.random((1, 3, SIDE, SIDE)).astype(np.float32)


def test_a_history_of_frames_is_kept_by_the_program(tmp_path: Path) -> None:
    policy, program = history_program()
    bundle = compiled(program, tmp_path / "bundle", pool="portfolio:1MB", bandwidth="1kB/s-10GB/s")
    assert [state.key for state in bundle.plan.states] == ["history"]
    assert len(bundle.golden_sequence()) == 8
    assert all(result.passed for result in verify_bundle(bundle))
    server = vlacut.serve(bundle.root)
    with (
        serving_thread(server),
        vlacut.connect(bundle.root, "{}:{}".format(*server.address), selector="random") as session,
    ):
        for episode in range(2):
            session.reset()
            frames = torch.zeros(1, FRAMES, WIDTH)
            for number in range(6):
                action = session.step({"image": image(10 * episode + number)})["action"]
                made = policy(torch.from_numpy(image(10 * episode + number)), frames)
                frames = made["next_history"]
                np.testing.assert_allclose(action, made["action"].numpy(), rtol=0, atol=1e-5)
                assert (session.last.state is StateRule.RESET) == (number == 0)


@pytest.mark.parametrize("side", list(Side))
def test_an_instruction_is_read_once_an_episode(tmp_path: Path, side: Side) -> None:
    policy, program = instructed_program()
    pins = (f"words*={side.value}",)
    bundle = compiled(program, tmp_path / "bundle", pin=pins)
    plan = bundle.plan
    assert {state.key for state in plan.states} == plan.staying_keys == {"keys", "values"}
    chosen = plan.variants[0]
    assert chosen.first_price is not None
    assert chosen.first_price.total_s > 0
    on_reset = [part for part in plan.parts if part.phase == "instruct"]
    assert {part.side for part in on_reset} >= {side}
    assert all(result.passed for result in verify_bundle(bundle))
    server = vlacut.serve(bundle.root)
    with (
        serving_thread(server),
        vlacut.connect(bundle.root, "{}:{}".format(*server.address)) as session,
    ):
        for episode in range(2):
            session.reset()
            tokens = np.arange(TOKENS)[None] + episode
            keys, values = policy.instruct(torch.from_numpy(tokens))
            for number in range(4):
                # What it says later is not read before the next reset.
                said = tokens if number == 0 else np.zeros_like(tokens)
                action = session.step({"image": image(number), "tokens": said})["action"]
                expected = policy.act(torch.from_numpy(image(number)), keys, values).numpy()
                np.testing.assert_allclose(action, expected, rtol=0, atol=1e-5)
                ran = {*session.last.edge_s, *session.last.cloud_s}
                assert any(name.startswith("instruct") for name in ran) == (number == 0)


def test_copies_let_the_edge_go_on_alone(tmp_path: Path) -> None:
    """All in the cloud, and the edge has its state: what that moves is in the price."""
    _, program = history_program()
    options = {"pin": ("*=cloud",)}
    plain = compiled(program, tmp_path / "plain", **options).plan
    _, program = history_program()
    copied = compiled(program, tmp_path / "copied", state_copies="edge", **options).plan
    nbytes = FRAMES * WIDTH * 4
    assert copied.variants[0].price.bytes_down == plain.variants[0].price.bytes_down + nbytes
    assert copied.variants[0].price.hops == plain.variants[0].price.hops
    assert copied.state_uses[0].keeps[Side.EDGE] == {"history"}
    assert plain.state_uses[0].keeps[Side.EDGE] == frozenset()
