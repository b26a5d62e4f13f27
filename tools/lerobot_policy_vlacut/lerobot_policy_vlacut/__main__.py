"""Write the folder that LeRobot's commands take as `--policy.path`.

    python -m lerobot_policy_vlacut BUNDLE CHECKPOINT -o FOLDER

BUNDLE is what `vlacut compile lerobot:CHECKPOINT` wrote; names and shapes are the checkpoint's.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from lerobot.configs.policies import PreTrainedConfig

from lerobot_policy_vlacut.configuration_vlacut import VlacutConfig
from lerobot_policy_vlacut.processor_vlacut import make_vlacut_pre_post_processors


def write(bundle: Path, checkpoint: Path, out: Path) -> None:
    """Write `config.json` and the two processors; the bundle stays where it is."""
    original = PreTrainedConfig.from_pretrained(checkpoint)
    config = VlacutConfig(
        input_features=original.input_features,
        output_features=original.output_features,
        device="cpu",
        bundle=os.path.relpath(bundle, out),
        n_action_steps=original.n_action_steps,
    )
    config.save_pretrained(out)
    for pipeline in make_vlacut_pre_post_processors(config):
        pipeline.save_pretrained(out)


def main() -> None:
    words = argparse.ArgumentParser(prog="lerobot_policy_vlacut", description=__doc__)
    words.add_argument("bundle", type=Path)
    words.add_argument("checkpoint", type=Path)
    words.add_argument("-o", "--out", type=Path, required=True)
    asked = words.parse_args()
    known = json.loads((asked.checkpoint / "config.json").read_text())["type"]
    write(asked.bundle, asked.checkpoint, asked.out)
    print(f"a policy of type vlacut, for {known} of {asked.checkpoint}: {asked.out}")


if __name__ == "__main__":
    main()
