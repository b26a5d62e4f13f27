"""The plugin for LeRobot beside stand-ins for LeRobot: fixtures, and a batch."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import pytest
import torch

import vlacut
from support.foreign import LEROBOT_PLUGIN
from support.lerobot_wire import FRONT, STATE, Played


class Config:
    """Of LeRobot: registers a type, and has features."""

    action_feature, input_features, n_obs_steps = object(), {STATE: None}, 1

    @classmethod
    def register_subclass(cls, name: str) -> Any:
        return lambda kind: kind


class Policy(torch.nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The plugin's modules, imported beside stand-ins that nothing else sees afterwards."""
    for name, has in {
        "lerobot": {},
        "lerobot.configs": {},
        "lerobot.configs.policies": {"PreTrainedConfig": Config},
        "lerobot.policies": {},
        "lerobot.policies.pretrained": {"PreTrainedPolicy": Policy},
        "lerobot.processor": dict.fromkeys(
            ("AddBatchDimensionProcessorStep", "DeviceProcessorStep", "PolicyProcessorPipeline"),
            object,
        )
        | {"RenameObservationsProcessorStep": object},
        "lerobot.processor.converters": dict.fromkeys(
            ("policy_action_to_transition", "transition_to_policy_action")
        ),
    }.items():
        module = types.ModuleType(name)
        vars(module).update(has)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.syspath_prepend(str(LEROBOT_PLUGIN))
    yield import_module("lerobot_policy_vlacut")
    for name in [name for name in sys.modules if name.startswith("lerobot_policy_vlacut")]:
        del sys.modules[name]


@dataclass
class Session:
    """A session whose plan has the inputs of the played policy."""

    plan: Any
    closed: bool = False

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def made(plugin: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Played, Session]:
    played = Played()
    session = Session(types.SimpleNamespace(inputs=played.specs))
    told: list[Any] = []
    monkeypatch.setattr(vlacut, "connect", lambda *words, **more: told.append(words) or session)
    model = sys.modules["lerobot_policy_vlacut.modeling_vlacut"]
    monkeypatch.setattr(model, "OpenpiPolicy", lambda session: played)
    config = plugin.VlacutConfig(bundle="x.vlacut", cloud="127.0.0.1:7", n_action_steps=2)
    policy = plugin.VlacutPolicy.from_pretrained("folder", config=config)
    assert [str(word) for word in told[0]] == ["folder/x.vlacut", "127.0.0.1:7"]
    return policy, played, session


def batch(state: float, count: int = 1) -> dict[str, Any]:
    """As LeRobot's preprocessor leaves it: pictures from 0 to 1, the channels first."""
    picture = torch.arange(240, dtype=torch.uint8).reshape(8, 10, 3)
    ready = (picture.float() / 255).permute(2, 0, 1)[None].expand(count, -1, -1, -1)
    return {STATE: torch.full((count, 2), state), FRONT: ready, "task": ["fold"]}


def policy_of(made: Any, monkeypatch: pytest.MonkeyPatch, played: Any) -> Any:
    """Another policy of the fixture's folder, of whose session a played one makes the steps."""
    model = sys.modules["lerobot_policy_vlacut.modeling_vlacut"]
    monkeypatch.setattr(model, "OpenpiPolicy", lambda session: played)
    return model.VlacutPolicy(made[0].config)
