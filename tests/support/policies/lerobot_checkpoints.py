"""Checkpoints of LeRobot's own classes with random weights, saved by its own code.

    python lerobot_checkpoints.py act|diffusion|smolvla FOLDER  (in LeRobot's environment)

Small: pictures of 48 x 64, six joints, a text model of two layers. Of the vision-language model
that SmolVLA is trained from there is what LeRobot reads of it: FOLDER/vlm with its configuration,
its processor, and a tokenizer of a few words.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

WORDS = ("pick", "up", "the", "cube", "fold", "shirt")
CAMERAS, SIZE, JOINTS = ("front", "wrist"), (48, 64), 6


def make(kind: str, folder: Path) -> None:
    import torch

    torch.manual_seed(0)
    config = {"act": act, "diffusion": diffusion, "smolvla": smolvla}[kind](folder)
    from lerobot.policies.factory import get_policy_class, make_pre_post_processors

    policy = get_policy_class(kind)(config)
    with torch.no_grad():
        for name, one in policy.named_parameters():
            if one.dim() > 1 and "norm" not in name:  # so that outputs depend on inputs
                one.normal_(0.0, one[0].numel() ** -0.5)
    policy.save_pretrained(folder / "pretrained_model")
    for one in make_pre_post_processors(config, dataset_stats=statistics(config)):
        one.save_pretrained(folder / "pretrained_model")


def features() -> dict[str, Any]:
    from lerobot.configs.types import FeatureType, PolicyFeature

    pictures = {
        f"observation.images.{name}": PolicyFeature(FeatureType.VISUAL, (3, *SIZE))
        for name in CAMERAS
    }
    return {
        "input_features": {
            **pictures,
            "observation.state": PolicyFeature(FeatureType.STATE, (JOINTS,)),
        },
        "output_features": {"action": PolicyFeature(FeatureType.ACTION, (JOINTS,))},
        "device": "cpu",
    }


def statistics(config: Any) -> dict[str, dict[str, Any]]:
    import torch

    found = {}
    for name, one in {**config.input_features, **config.output_features}.items():
        shape = (3, 1, 1) if one.type.value == "VISUAL" else one.shape
        middle, wide = torch.rand(shape), torch.rand(shape) + 0.2
        found[name] = {"mean": middle, "std": wide, "min": middle - wide, "max": middle + wide}
    return found


def act(folder: Path) -> Any:
    from lerobot.policies.act.configuration_act import ACTConfig

    return ACTConfig(
        **features(),
        chunk_size=8,
        n_action_steps=8,
        dim_model=64,
        n_heads=4,
        dim_feedforward=96,
        n_encoder_layers=2,
        pretrained_backbone_weights=None,
    )


def diffusion(folder: Path) -> Any:
    from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig

    return DiffusionConfig(
        **features(),
        horizon=16,
        n_action_steps=8,
        resize_shape=(40, 56),
        crop_ratio=0.8,
        down_dims=(32, 64),
        diffusion_step_embed_dim=32,
        num_inference_steps=10,
    )


def smolvla(folder: Path) -> Any:
    from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig

    return SmolVLAConfig(
        **features(),
        chunk_size=8,
        n_action_steps=8,
        max_state_dim=16,
        max_action_dim=16,
        resize_imgs_with_padding=(64, 64),
        num_steps=4,
        num_vlm_layers=2,
        tokenizer_max_length=12,
        vlm_model_name=str(language_model(folder / "vlm")),
    )


def language_model(folder: Path) -> Path:
    """What SmolVLA reads of the model that it is trained from."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, SmolVLMConfig, SmolVLMProcessor
    from transformers.models.smolvlm.image_processing_smolvlm import SmolVLMImageProcessor
    from transformers.models.smolvlm.video_processing_smolvlm import SmolVLMVideoProcessor

    special = ["<unk>", "<pad>", "<image>", "<fake_token_around_image>", "<global-img>"]
    special += ["<end_of_utterance>"]
    words = {word: place for place, word in enumerate([*special, "\n", *WORDS])}
    plain = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain,
        unk_token="<unk>",
        pad_token="<pad>",
        extra_special_tokens={
            "image_token": special[2],
            "fake_image_token": special[3],
            "global_image_token": special[4],
            "end_of_utterance_token": special[5],
        },
    )
    SmolVLMProcessor(
        SmolVLMImageProcessor(), tokenizer, SmolVLMVideoProcessor(), image_seq_len=4
    ).save_pretrained(folder)
    text = {
        "model_type": "llama",
        "hidden_size": 96,
        "intermediate_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": len(words),
    }
    vision = {
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 64,
        "patch_size": 8,
    }
    SmolVLMConfig(text_config=text, vision_config=vision, scale_factor=2).save_pretrained(folder)
    return folder


if __name__ == "__main__":
    make(sys.argv[1], Path(sys.argv[2]))
