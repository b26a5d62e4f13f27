"""The plugin for LeRobot under `--inference.type=rtc`, beside stand-ins for LeRobot."""

from __future__ import annotations

import sys
import types
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from support.lerobot_plugin import batch, policy_of
from support.lerobot_wire import STATE, Played

from vlacut.control.rtc import GUIDANCE, PREV_CHUNK, WEIGHTS, guidance_of
from vlacut.tensor import TensorSpec

CHUNK = (TensorSpec(PREV_CHUNK, "float32", (4, 2)), TensorSpec(WEIGHTS, "float32", (4,)))
GUIDED = (*CHUNK, TensorSpec(GUIDANCE, "float32", (3, 2)))
SETTINGS = types.SimpleNamespace(execution_horizon=3, max_guidance_weight=10.0)
LEFT = torch.tensor([[1.0, 2.0], [0.0, 0.0], [3.0, 4.0], [0.0, 0.0]])


class Told(Played):
    """A policy that keeps what it was told of the chunk in force."""

    told: Any = None

    def infer(self, sent: Any, *words: Any) -> Any:
        self.told = {name: sent[name] for name in (PREV_CHUNK, WEIGHTS, GUIDANCE) if name in sent}
        return super().infer({key: one for key, one in sent.items() if key not in self.told})


@pytest.fixture
def schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    """LeRobot's weights, in its place: its linear schedule, written down again."""

    class Processor:
        def __init__(self, settings: Any) -> None:
            assert settings is SETTINGS

        def get_prefix_weights(self, start: int, end: int, total: int) -> torch.Tensor:
            place = torch.arange(total)
            falling = 1 - (place - start + 1) / (end - start + 1)
            return torch.where(place < start, 1.0, falling.clamp(0, 1))

    for name in ("lerobot.policies.rtc", "lerobot.policies.rtc.modeling_rtc"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["lerobot.policies.rtc.modeling_rtc"].RTCProcessor = Processor  # type: ignore[attr-defined]


def continued(made: Any, monkeypatch: Any, inputs: tuple[TensorSpec, ...]) -> tuple[Any, Told]:
    """A policy whose bundle takes these inputs, too, under real-time chunking."""
    played = Told()
    made[2].plan.inputs = (*played.specs, *inputs)
    policy = policy_of(made, monkeypatch, played)
    policy.config.rtc_config = SETTINGS
    return policy, played


def test_a_bundle_is_told_of_what_is_left_and_how_much_it_counts(
    made: Any,
    monkeypatch: pytest.MonkeyPatch,
    schedule: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    policy, played = continued(made, monkeypatch, GUIDED)
    with caplog.at_level("INFO", logger="vlacut.lerobot"):
        policy.init_rtc_processor()
    assert "each chunk continues the commands that are left" in caplog.text
    policy.predict_action_chunk(batch(1.0), inference_delay=0, prev_chunk_left_over=None)
    assert not any(array.any() for array in played.told.values())
    with caplog.at_level("INFO", logger="vlacut.lerobot"):
        for _ in range(2):
            policy.predict_action_chunk(batch(1.0), inference_delay=1, prev_chunk_left_over=LEFT)
    assert caplog.text.count("a chunk continues 3 commands; 1 are played meanwhile") == 1
    np.testing.assert_array_equal(played.told[PREV_CHUNK][:3], LEFT[:3])  # no zeros of LeRobot's
    np.testing.assert_allclose(played.told[WEIGHTS], [1, 2 / 3, 1 / 3, 0], atol=1e-6)
    np.testing.assert_allclose(played.told[GUIDANCE], guidance_of(3, 10.0), rtol=1e-6)
    policy.select_action(batch(1.0))
    assert not any(array.any() for array in played.told.values())


@pytest.mark.parametrize(("rows", "delay", "weights"), [(3, 2, [1, 1, 0, 0]), (1, 2, [1, 0, 0, 0])])
def test_a_prefix_is_kept_whole(
    made: Any,
    monkeypatch: pytest.MonkeyPatch,
    rows: int,
    delay: int,
    weights: list[float],
) -> None:
    """Of a bundle of training-time chunking; what LeRobot filled up with zeros is no prefix."""
    policy, played = continued(made, monkeypatch, CHUNK)
    left = LEFT.clone()
    left[rows:] = 0
    policy.predict_action_chunk(batch(1.0), inference_delay=delay, prev_chunk_left_over=left)
    assert played.told[WEIGHTS].tolist() == weights
    assert GUIDANCE not in played.told


def test_nothing_left_is_nothing_to_continue(
    made: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policy, played = continued(made, monkeypatch, GUIDED)
    policy.predict_action_chunk(batch(1.0), prev_chunk_left_over=torch.zeros(0, 2))
    assert not any(array.any() for array in played.told.values())


def test_without_guidance_the_log_says_so(made: Any, caplog: pytest.LogCaptureFixture) -> None:
    policy, _, _ = made
    assert policy.supports_rtc()
    policy.init_rtc_processor()
    assert "without guidance" in caplog.text
    assert "--real-time-chunking guided" in caplog.text
    policy.config.rtc_config = SETTINGS
    chunk = policy.predict_action_chunk(
        batch(1.0), inference_delay=3, prev_chunk_left_over=torch.zeros(1, 2)
    )
    assert (chunk.shape, chunk.dtype) == ((1, 4, 2), torch.float32)


def test_a_policy_that_remembers_is_not_chunked_in_real_time(
    made: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    policy, _, _ = made
    config = replace(policy.config)
    config.n_obs_steps = 2
    assert not type(policy)(config).supports_rtc()
    assert "reads 2 observations" in caplog.text
    assert "--inference.type=sync" in caplog.text


def test_a_chunk_of_no_commands_is_refused(made: Any) -> None:
    policy, _, _ = made
    with pytest.raises(ValueError, match=r"--policy\.n_action_steps is 0, and must be 1 or more"):
        type(policy)(replace(policy.config, n_action_steps=0))
    assert STATE in policy._inputs
