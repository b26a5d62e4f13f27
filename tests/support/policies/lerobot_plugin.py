"""The plugin in LeRobot's own hands: folder, configuration, policy and processors by its factories.

    python lerobot_plugin.py OBSERVATION.npz FOLDER HOST:PORT

FOLDER is what `vlacut compile lerobot:DIR -o FOLDER --lerobot` wrote. Prints three commands for the
observation, which is as a robot has it, of a policy that remembers one tick after the other; what
the first look says is in the log, on stderr.
"""

from __future__ import annotations

import json
import logging
import sys

import numpy as np
import torch


def main(observation: str, folder: str, cloud: str) -> None:
    import lerobot_policy_vlacut  # noqa: F401  (as LeRobot's commands import every plugin)
    from lerobot.configs.policies import PreTrainedConfig
    from lerobot.policies.factory import get_policy_class, make_pre_post_processors

    logging.basicConfig(level=logging.INFO, stream=sys.stderr, force=True)
    config = PreTrainedConfig.from_pretrained(folder, cli_overrides=[f"--cloud={cloud}"])
    policy = get_policy_class(config.type).from_pretrained(folder, config=config)
    before, after = make_pre_post_processors(config, pretrained_path=folder)
    with np.load(observation) as raw:
        arrays = {name: raw[name] for name in raw.files if name.startswith("observation.")}
    remembers = config.n_obs_steps > 1
    moments = [
        {name: one[at] if remembers else one for name, one in arrays.items()}
        for at in range(config.n_obs_steps)
    ]
    policy.reset()
    made = []
    for place in range(3):
        batch: dict = {"task": ""}
        for name, array in moments[min(place, len(moments) - 1)].items():
            tensor = torch.from_numpy(array)
            if tensor.dtype == torch.uint8:  # as LeRobot's prepare_observation_for_inference
                tensor = (tensor.float() / 255).permute(2, 0, 1)
            batch[name] = tensor[None]
        made.append(after(policy.select_action(before(batch)))[0].tolist())
    policy.close()
    print(json.dumps(made))


if __name__ == "__main__":
    main(*sys.argv[1:])
