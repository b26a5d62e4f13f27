"""A policy with its denoise loop and its noise inside, from a module to both sides at work."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.commands import Vlacut
from support.deployments import serving_thread

import vlacut
from vlacut.bundle.reading import open_bundle
from vlacut.compiler.rolling import roll
from vlacut.errors import ModelDiffers
from vlacut.frontends.load import load_program

POLICY = """
import torch
from torch import nn

class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.see, self.up, self.down = nn.Linear(6, 256), nn.Linear(265, 512), nn.Linear(512, 8)

    def forward(self, image):
        context = self.see(image).relu()
        x = torch.randn(1, 8)
        for step in range(6):
            time = torch.full((1, 1), step / 6)
            x = x - self.down(torch.tanh(self.up(torch.cat([x, context, time], dim=1)))) / 6
            x = x + 0.1 * torch.randn(1, 8)
        return x

def make():
    return Policy().eval(), (torch.linspace(-1, 1, 6).reshape(1, 6),)
"""
MACHINES = ("--edge", "jetson-agx-orin", "--cloud", "a100", "--link", "1GB/s,0.1ms")


def test_from_a_module_to_both_sides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Vlacut(monkeypatch, capsys)
    (tmp_path / "policy.py").write_text(POLICY)
    model, bundle = f"{tmp_path / 'policy.py'}:make", tmp_path / "policy.vlacut"
    asked = (*MACHINES, "--roll", "auto", "--no-cache", "--pin", "loop=cloud", "-o", bundle)
    status, out, err = run("compile", model, *asked)
    assert status == 0, err
    assert "6 trips of phase loop" in err
    assert "noise noise.1: float32[6, 1, 8] is drawn on the edge, normal(0, 1)" in " ".join(
        out.split()
    )
    opened = open_bundle(bundle)
    assert [(one.name, one.trips) for one in opened.manifest.whole] == [("before", 1), ("loop", 6)]
    check = opened.manifest.model_check
    assert check.against == "your PyTorch module"
    assert check.observations == 3
    assert check.difference <= 1e-5 * check.magnitude
    results = vlacut.verify(bundle)
    assert all(one.passed for one in results)
    assert [one.max_abs_error for one in results if one.comparison == "cut"] == [0]

    image = opened.golden("observation")["image"]
    actions = {}
    server = vlacut.serve(bundle)
    with serving_thread(server):
        address = "{}:{}".format(*server.address)
        for seed in (0, 0, 3):
            with vlacut.connect(bundle, address, seed=seed) as policy:
                made = [policy.step({"image": image})["output_0"] for _ in range(2)]
            assert all(map(np.array_equal, actions.setdefault(seed, made), made))
            assert not np.array_equal(*made)
        np.testing.assert_array_equal(actions[0][0], opened.golden("action")["output_0"])
        assert not np.array_equal(actions[0][0], actions[3][0])
        status, out, err = run("run", bundle, "--cloud", address, "--seed", 3, "--json")
        assert status == 0, err
        found = json.loads(out)
    np.testing.assert_array_equal(np.float32(found["action"]["output_0"]), actions[3][0])
    assert found["noise"] == "noise drawn with seed 3: noise.0, noise.1"


def test_a_loop_that_is_rolled_wrongly_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "policy.py").write_text(POLICY)
    program = load_program(f"{tmp_path / 'policy.py'}:make")
    wrong = "vlacut.ir.phase_roll.np.stack"
    monkeypatch.setattr(wrong, lambda rows: np.array([rows[0] for _ in rows]))
    with pytest.raises(ModelDiffers, match="output output_0 differs by"):
        roll(program, None, print)
