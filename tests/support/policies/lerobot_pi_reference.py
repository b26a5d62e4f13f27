"""Actions of LeRobot's own pi0 and pi05, which `tests/golden/lerobot_pi_actions.npz` holds.

Of pi0 also a chunk that continues another by LeRobot's real-time chunking, `pi0.continued`, and
what is left of that other, `pi0.left`; both in the robot's units.

    python lerobot_pi_reference.py FOLDER FILE.npz

Its steps, its policy and its steps again, on small checkpoints that `pi_folders` makes in FOLDER;
sizes are small ones, and so are the words of the tokeniser. The environment has vlacut's compiler
and LeRobot 0.6.1, which wants Python 3.12.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from support import pi_numbers as small
from support.pi_folders import CAMERA, JOINTS, STATE, lerobot_folder

TASK = "pick it"
DELAY, MOST_GUIDANCE, LEFT = 2, 10.0, 6  # of the chunk that continues another


def observation() -> dict[str, np.ndarray]:
    """As a robot has it, and the noise."""
    numbers = np.random.default_rng(11)
    return {
        CAMERA: numbers.integers(0, 256, (48, 64, 3), dtype=np.uint8),
        STATE: numbers.uniform(-0.5, 1.5, JOINTS).astype(np.float32),
        "noise": numbers.standard_normal((1, small.CHUNK, small.ACTIONS)).astype(np.float32),
    }


def tokenizer(folder: Path) -> Any:
    """The one of a folder, as transformers hands it on: it begins with <bos>."""
    from tokenizers import Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    whole = Tokenizer.from_file(str(folder / "tokenizer.json"))
    begins = [("<bos>", whole.token_to_id("<bos>"))]
    whole.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=begins)
    return PreTrainedTokenizerFast(tokenizer_object=whole, pad_token="<pad>", bos_token="<bos>")


def shrink(module: Any) -> None:
    """Make a policy's network small."""
    mapping = module.CONFIG_MAPPING

    def gemma(variant: str) -> SimpleNamespace:
        width, hidden, depth = small.LANGUAGE if variant == "gemma_2b" else small.EXPERT
        sizes = {"num_heads": small.HEADS, "num_kv_heads": 1, "head_dim": small.HEAD_WIDTH}
        return SimpleNamespace(width=width, depth=depth, mlp_dim=hidden, **sizes)

    class Small:
        def __getitem__(self, name: str) -> Any:
            words = {"vocab_size": small.WORDS} if name == "gemma" else {}
            return lambda **given: mapping[name](**{**given, **words})

    whole = module.PaliGemmaForConditionalGenerationWithPiGemma

    def paligemma(config: Any) -> Any:
        vision, text = config.vision_config, config.text_config
        vision.hidden_size, vision.intermediate_size, vision.num_hidden_layers = small.VISION
        vision.num_attention_heads = small.VISION_HEADS
        vision.image_size, vision.patch_size = small.SIDE, small.PATCH
        vision.projection_dim = text.hidden_size
        text.vocab_size = config._vocab_size = small.WORDS
        config.image_token_index = small.WORDS - 1
        return whole(config=config)

    module.CONFIG_MAPPING, module.get_gemma_config = Small(), gemma
    module.PaliGemmaForConditionalGenerationWithPiGemma = paligemma


def actions(folder: Path, kind: str) -> dict[str, np.ndarray]:
    """LeRobot's own, in the robot's units, [chunk, n]; see the module's docstring."""
    from importlib import import_module

    from lerobot.configs.policies import PreTrainedConfig
    from lerobot.policies.factory import get_policy_class, make_pre_post_processors
    from safetensors.torch import load_file

    shrink(import_module(f"lerobot.policies.{kind}.modeling_{kind}"))
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**said, "device": "cpu"}))
    config = PreTrainedConfig.from_pretrained(folder)
    policy = get_policy_class(kind)(config).eval()
    found = policy._fix_pytorch_state_dict_keys(load_file(folder / "model.safetensors"), config)
    lacks, more = policy.load_state_dict(found, strict=False)
    assert not more, more
    assert all(name.endswith("lm_head.weight") for name in lacks), lacks
    before, after = make_pre_post_processors(
        config,
        pretrained_path=str(folder),
        preprocessor_overrides={
            "device_processor": {"device": "cpu"},
            "tokenizer_processor": {"tokenizer": tokenizer(folder)},
        },
        postprocessor_overrides={"device_processor": {"device": "cpu"}},
    )
    seen = observation()
    picture = (torch.from_numpy(seen[CAMERA]).float() / 255).permute(2, 0, 1)[None]
    batch = {CAMERA: picture, STATE: torch.from_numpy(seen[STATE])[None], "task": [TASK]}
    with torch.no_grad():
        noise = torch.from_numpy(seen["noise"])
        plain = policy.predict_action_chunk(before(batch), noise=noise)
        made = {kind: np.asarray(after(plain)[0])}
    if kind == "pi0":
        # Of another chunk, so that there is something to be pulled to.
        left = torch.from_numpy(np.random.default_rng(5).standard_normal((LEFT, JOINTS))).float()
        from lerobot.policies.rtc.configuration_rtc import RTCConfig

        policy.config.rtc_config = RTCConfig(
            execution_horizon=LEFT, max_guidance_weight=MOST_GUIDANCE
        )
        policy.init_rtc_processor()
        told = {"inference_delay": DELAY, "prev_chunk_left_over": left}
        continued = policy.predict_action_chunk(before(batch), noise=noise, **told)
        made["pi0.continued"] = np.asarray(after(continued.detach())[0])
        made["pi0.left"] = np.asarray(after(left[None])[0])
    return made


if __name__ == "__main__":
    where = Path(sys.argv[1])
    found = {}
    for one in small.PROMPT:
        found.update(actions(lerobot_folder(where / one, one), one))
    np.savez(sys.argv[2], **found)
