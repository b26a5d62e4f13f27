"""A policy of LeRobot's that is a bundle of vlacut's; importing it registers the type `vlacut`."""

from lerobot_policy_vlacut.configuration_vlacut import VlacutConfig
from lerobot_policy_vlacut.modeling_vlacut import VlacutPolicy
from lerobot_policy_vlacut.processor_vlacut import make_vlacut_pre_post_processors

__all__ = ["VlacutConfig", "VlacutPolicy", "make_vlacut_pre_post_processors"]
