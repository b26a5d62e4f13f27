"""Policies written against `diffusers` and `lerobot`: traced as they are, and rolled to trips.

They need packages that the checks do not install: `sh tools/policies` makes an environment.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from support.lerobot_stubs import lerobot
from support.torch_models import run_program
from torch import Tensor, nn

from vlacut.compiler.rolling import roll
from vlacut.frontends.torch import program_from_module
from vlacut.ir.annotation import NOISE
from vlacut.ir.original import ORIGINAL
from vlacut.ir.program import Program
from vlacut.split.observations import example_observation
from vlacut.split.uncut import uncut_step

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # theirs
]

STEPS, LENGTH, WIDTH = 6, 8, 8
BOUND = 1e-5  # of the largest magnitude


class Policy(nn.Module):
    """A denoise loop as every example of diffusers has it, over a scheduler of theirs."""

    def __init__(self, scheduler: Any, net: nn.Module) -> None:
        super().__init__()
        self.see, self.net, self.scheduler = nn.Linear(6, WIDTH), net, scheduler

    def forward(self, image: Tensor) -> Tensor:
        context = self.see(image)[:, :, None]
        self.scheduler.set_timesteps(STEPS)
        x = torch.randn(1, WIDTH, LENGTH) * self.scheduler.init_noise_sigma
        for time in self.scheduler.timesteps:
            given = self.scheduler.scale_model_input(x, time)
            made = self.net(given, time, context)
            x = self.scheduler.step(made, time, x).prev_sample
        return x


class FlowPolicy(Policy):
    """Flow matching, which scales nothing."""

    def forward(self, image: Tensor) -> Tensor:
        context = self.see(image)[:, :, None]
        self.scheduler.set_timesteps(STEPS)
        x = torch.randn(1, WIDTH, LENGTH)
        for time in self.scheduler.timesteps:
            x = self.scheduler.step(self.net(x, time, context), time, x).prev_sample
        return x


class Small(nn.Module):
    """Convolutions over a chunk of commands, with the time in a channel."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Conv1d(2 * WIDTH, 16, 3, padding=1), nn.Conv1d(16, WIDTH, 1)

    def forward(self, x: Tensor, time: Tensor, context: Tensor) -> Tensor:
        seen = context.expand_as(x) * torch.cos(time.float() / 100)
        return self.down(torch.tanh(self.up(torch.cat([x, seen], dim=1))))


def made(name: str) -> nn.Module:
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    kind = FlowPolicy if name.startswith("FlowMatch") else Policy
    return kind(getattr(diffusers, name)(), Small()).eval()


# Schedulers of diffusers, with the trips that the loop becomes; what is first or last and another
# trip stays outside.
SCHEDULERS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "ddim": (lambda: made("DDIMScheduler"), STEPS),
    "ddpm": (lambda: made("DDPMScheduler"), STEPS - 1),
    "euler": (lambda: made("EulerDiscreteScheduler"), STEPS),
    "flow_match_euler": (lambda: made("FlowMatchEulerDiscreteScheduler"), STEPS),
    "dpm_solver": (lambda: made("DPMSolverMultistepScheduler"), STEPS - 2),
    "heun": (lambda: made("HeunDiscreteScheduler"), STEPS - 1),
    "lcm": (lambda: made("LCMScheduler"), STEPS - 1),
}


def rolled_and_held(module: nn.Module, trips: int, *args: Any) -> Program:
    """The program with its loop rolled, as many trips, and equal to the module on two observations
    and noises.
    """
    program = program_from_module(module, args)
    nodes = len(program.phases[0].model.graph)
    found = roll(program, None, print)
    (loop,) = (phase for phase in found.phases if phase.trips > 1)
    assert loop.trips == trips
    assert sum(len(phase.model.graph) for phase in found.phases) < nodes
    original = ORIGINAL.get(found)()
    assert original.step is not None
    example = example_observation(found)
    assert {one.input for one in NOISE.find(found) or ()} <= set(example)
    for seed in range(2):
        numbers = np.random.default_rng(seed)
        observed = (
            example
            if seed == 0
            else {
                name: numbers.standard_normal(array.shape).astype(array.dtype)
                for name, array in example.items()
            }
        )
        meant, had = original.step(observed), uncut_step(found, observed)
        for spec in found.outputs:
            off = np.abs(had[spec.name] - meant[spec.name]).max()
            assert off <= BOUND * np.abs(meant[spec.name]).max(), (seed, spec.name)
    return found


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_loop_over_a_scheduler_becomes_trips(name: str) -> None:
    make, trips = SCHEDULERS[name]
    rolled_and_held(make(), trips, torch.linspace(-1, 1, 6)[None])


class Chunk(nn.Module):
    """What a policy of lerobot makes of two kinds of state, behind its queues."""

    def __init__(self, policy: nn.Module, call: Callable[[dict[str, Tensor]], Tensor]) -> None:
        super().__init__()
        self.policy, self.call = policy, call

    def forward(self, state: Tensor, environment: Tensor) -> Tensor:
        return self.call({"observation.state": state, "observation.environment_state": environment})


def features() -> dict[str, Any]:
    types = lerobot("configs.types")
    kinds = types.FeatureType
    return {
        "input_features": {
            "observation.state": types.PolicyFeature(kinds.STATE, (3,)),
            "observation.environment_state": types.PolicyFeature(kinds.ENV, (4,)),
        },
        "output_features": {"action": types.PolicyFeature(kinds.ACTION, (2,))},
        "device": "cpu",
    }


def diffusion_policy(scheduler: str) -> nn.Module:
    pytest.importorskip("lerobot")
    torch.manual_seed(0)
    config = lerobot("policies.diffusion.configuration_diffusion").DiffusionConfig(
        **features(),
        horizon=LENGTH,
        n_action_steps=4,
        down_dims=(16, 32),
        n_groups=4,
        diffusion_step_embed_dim=16,
        noise_scheduler_type=scheduler,
        num_inference_steps=STEPS,
    )
    policy = lerobot("policies.diffusion.modeling_diffusion").DiffusionPolicy(config)
    return Chunk(policy, policy.diffusion.generate_actions).eval()


def states(steps: int | None) -> tuple[Tensor, Tensor]:
    shape = (1,) if steps is None else (1, steps)
    made = (torch.linspace(-1, 1, width) for width in (3, 4))
    first, second = (one.expand(*shape, -1).clone() for one in made)
    return first, second


@pytest.mark.parametrize(("scheduler", "trips"), [("DDIM", STEPS), ("DDPM", STEPS - 1)])
def test_the_diffusion_policy_of_lerobot_becomes_trips(scheduler: str, trips: int) -> None:
    rolled_and_held(diffusion_policy(scheduler), trips, *states(2))


def test_act_of_lerobot_is_traced_as_it_is() -> None:
    pytest.importorskip("lerobot")
    torch.manual_seed(0)
    config = lerobot("policies.act.configuration_act").ACTConfig(
        **features(), dim_model=32, n_heads=4, dim_feedforward=64, chunk_size=8, n_action_steps=8
    )
    policy = lerobot("policies.act.modeling_act").ACTPolicy(config)
    module, given = Chunk(policy, lambda batch: policy.model(batch)[0]).eval(), states(None)
    program = program_from_module(module, given)
    observed = dict(zip(program.phases[0].input_names, (one.numpy() for one in given), strict=True))
    with torch.no_grad():
        meant = module(*given).numpy()
    off = np.abs(run_program(program, observed)[program.outputs[0].name] - meant).max()
    assert off <= BOUND * np.abs(meant).max()
