"""The plugin for LeRobot, beside stand-ins for LeRobot: what it hands on, when it asks again."""

from __future__ import annotations

import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.lerobot_plugin import batch
from support.lerobot_wire import FRONT, STATE, Played


def test_a_chunk_is_played_before_the_next_is_asked_for(made: Any) -> None:
    policy, played, session = made
    found = [policy.select_action(batch(state)) for state in (1.0, 5.0, 9.0)]
    assert [one.tolist() for one in found] == [[[1, 1]], [[2, 2]], [[9, 9]]]
    policy.reset()
    assert played.resets == 1
    assert policy.select_action(batch(3.0)).tolist() == [[3, 3]]
    policy.close()
    assert session.closed


class Remembering(Played):
    """A bundle of a policy that reads two observations."""

    sent: Any = None

    def infer(self, sent: Any, *words: Any) -> Any:
        self.sent = sent
        return super().infer({name: one[-1] for name, one in sent.items()}, *words)


def test_a_policy_that_remembers_gets_the_last_observations(
    made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of each tick, though a chunk plays two; an episode begins with copies of its first."""
    played = Remembering()
    model = sys.modules["lerobot_policy_vlacut.modeling_vlacut"]
    monkeypatch.setattr(model, "OpenpiPolicy", lambda session: played)
    config = replace(made[0].config, n_action_steps=2)
    config.n_obs_steps = 2
    policy = model.VlacutPolicy(config)
    seen = []
    for state in (1.0, 2.0, 3.0, 4.0, 5.0):
        policy.select_action(batch(state))
        seen.append(played.sent[STATE][:, 0].tolist())
    assert seen == [[1, 1], [1, 1], [2, 3], [2, 3], [4, 5]]
    assert played.sent[FRONT].shape == (2, 8, 10, 3)
    policy.reset()
    policy.select_action(batch(7.0))
    assert played.sent[STATE].tolist() == [[7, 7], [7, 7]]


def test_pictures_are_again_the_bytes_of_the_camera(made: Any) -> None:
    policy, played, _ = made
    chunk = policy.predict_action_chunk(batch(1.0))
    assert (chunk.shape, chunk.dtype) == ((1, 4, 2), torch.float32)
    np.testing.assert_array_equal(played.seen, np.arange(240, dtype=np.uint8).reshape(8, 10, 3))


def test_a_bundle_drives_one_robot_and_is_not_trained(made: Any) -> None:
    policy, _, _ = made
    with pytest.raises(ValueError, match="drives one robot, and the batch is 2"):
        policy.predict_action_chunk(batch(1.0, count=2))
    with pytest.raises(NotImplementedError, match="train its checkpoint"):
        policy.forward({})


class FirstLook:
    """LeRobot's own policy, whose commands are off by so much; the state plays the noise."""

    def __init__(self, off: float) -> None:
        self.off, self.noise, self.resets = off, None, 0

    def reset(self) -> None:
        self.resets += 1

    def __call__(self, seen: Any, noise: Any = None) -> torch.Tensor:
        self.noise = self.noise if noise is None else noise[STATE]
        state = seen[-1][STATE][0] if noise is None else torch.from_numpy(noise[STATE])
        return (state + torch.arange(4.0)[:, None])[None] + self.off


@pytest.mark.parametrize(("off", "goes_on"), [(0.01, False), (0.5, True)])
def test_the_first_actions_are_compared_with_the_checkpoint_s_own(
    made: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    off: float,
    goes_on: bool,
) -> None:
    session = made[2]
    theirs, asked = FirstLook(off), []
    model = sys.modules["lerobot_policy_vlacut.modeling_vlacut"]
    monkeypatch.setattr(model, "original_of", lambda *words: asked.append(words) or theirs)
    policy = model.VlacutPolicy(made[0].config)
    session.plan.noise = [types.SimpleNamespace(input=STATE)]
    with caplog.at_level("INFO", logger="vlacut.lerobot"):
        first = policy.predict_action_chunk(batch(1.0))
        second = policy.predict_action_chunk(batch(2.0))
    assert asked == [(None, "")]  # once
    assert theirs.noise.shape == (2,)
    assert (policy._instead is theirs) == goes_on
    assert ("drives on" in caplog.text) == goes_on
    assert float(second[0, 0, 0]) == pytest.approx(2.0 + (off if goes_on else 0))
    assert first.shape == (1, 4, 2)
    policy.reset()
    assert theirs.resets == goes_on  # it drives: its episode begins, too


def test_an_original_that_makes_no_chunk_stops_no_robot(
    made: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any) -> Any:
        raise RuntimeError("out of memory")

    model = sys.modules["lerobot_policy_vlacut.modeling_vlacut"]
    monkeypatch.setattr(model, "original_of", lambda *_: fails)
    made[2].plan.noise = []
    policy = model.VlacutPolicy(made[0].config)
    assert policy.predict_action_chunk(batch(1.0)).shape == (1, 4, 2)
    assert "nothing is compared: out of memory" in caplog.text
    assert policy._instead is None


def test_another_checkpoint_in_its_place_is_not_compared(
    plugin: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    look = sys.modules["lerobot_policy_vlacut.first_look"]
    (tmp_path / "config.json").write_text("{}")
    assert look.original_of(tmp_path, "0" * 64) is None
    assert "is not the checkpoint any more" in caplog.text


def test_a_folder_s_checkpoint_is_found_from_there(
    made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    model = sys.modules["lerobot_policy_vlacut.modeling_vlacut"]
    monkeypatch.setattr(model, "original_of", lambda *words: asked.append(words))
    config = replace(made[0].config, checkpoint="../act", checkpoint_digest="12")
    model.VlacutPolicy(config, Path("policy"))
    assert asked == [(Path("policy/../act"), "12")]


def test_without_a_checkpoint_the_log_says_that_nothing_is_compared(
    made: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="vlacut.lerobot"):
        policy = type(made[0])(made[0].config)
        policy.predict_action_chunk(batch(1.0))
    assert "not compared" in caplog.text
    assert policy._instead is None
