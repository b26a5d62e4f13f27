"""`VlacutConfig`: the bundle, its cloud, and what LeRobot asks of every policy's configuration."""

from __future__ import annotations

from dataclasses import dataclass

from lerobot.configs.policies import PreTrainedConfig


@PreTrainedConfig.register_subclass("vlacut")
@dataclass
class VlacutConfig(PreTrainedConfig):
    """A bundle as a policy; fields are options, as in `--policy.cloud=10.0.0.5:7000`.

    Attributes:
        bundle: path of the bundle; one that is relative is in the policy's folder.
        cloud: HOST:PORT of `vlacut serve`; empty for a bundle that runs on the edge alone.
        tls: folder of `vlacut keys` for this robot; empty on loopback.
        deadline_s: seconds after which a step is answered by the edge, or by the last action.
        seed: of the noise.
        n_action_steps: commands of a chunk that are played before the next one; 1 or more.
        checkpoint: folder of the policy that the bundle was compiled from, with which its first
            actions are compared; empty for no comparison. One that is relative is from the
            policy's folder.
        checkpoint_digest: of that policy; another one in its place is not compared.
        tolerance: the difference that is allowed there, as a share of the largest magnitude.
    """

    bundle: str = "policy.vlacut"
    cloud: str = ""
    tls: str = ""
    deadline_s: float | None = None
    seed: int = 0
    n_action_steps: int = 1
    checkpoint: str = ""
    checkpoint_digest: str = ""
    tolerance: float = 0.02

    @property
    def observation_delta_indices(self) -> None:
        return None

    @property
    def action_delta_indices(self) -> None:
        return None

    @property
    def reward_delta_indices(self) -> None:
        return None

    def get_optimizer_preset(self) -> None:
        raise NotImplementedError("a bundle is not trained; train its checkpoint")

    def get_scheduler_preset(self) -> None:
        return None

    def validate_features(self) -> None:
        if self.action_feature is None or not self.input_features:
            raise ValueError("the policy's config.json has no features; write its folder anew")
        if self.n_action_steps < 1:
            raise ValueError(
                f"--policy.n_action_steps is {self.n_action_steps}, and must be 1 or more: so many "
                f"commands of a chunk are played"
            )
