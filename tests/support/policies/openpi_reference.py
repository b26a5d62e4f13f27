"""Actions of openpi's own PyTorch classes, which `tests/golden/openpi_actions.npz` holds.

    python openpi_reference.py OPENPI FILE.npz

OPENPI is a checkout of github.com/Physical-Intelligence/openpi. The environment has torch, numpy
and transformers 4.53.2, with openpi's `transformers_replace` over it as openpi's README says. Of
openpi run `pi0_pytorch`, `gemma_pytorch` and `preprocessing_pytorch`; its sizes are small ones, and
the third camera is masked, as it is with one that is missing.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
import pi_numbers as small


def small_gemma(variant: str) -> SimpleNamespace:
    width, hidden, depth = {"vlm": small.LANGUAGE, "expert": small.EXPERT}[variant]
    sizes = {"num_heads": small.HEADS, "num_kv_heads": 1, "head_dim": small.HEAD_WIDTH}
    return SimpleNamespace(width=width, depth=depth, mlp_dim=hidden, **sizes)


def openpi(checkout: Path) -> Any:
    """Openpi's class, without JAX, and small."""
    for name in ("openpi.models", "openpi.models.gemma", "openpi.shared.image_tools"):
        sys.modules[name] = ModuleType(name)
    sys.modules["openpi.models"].gemma = sys.modules["openpi.models.gemma"]  # type: ignore[attr-defined]
    sys.modules["openpi.models.gemma"].get_config = small_gemma  # type: ignore[attr-defined]
    shared = sys.modules["openpi.shared"] = ModuleType("openpi.shared")
    shared.image_tools = sys.modules["openpi.shared.image_tools"]  # type: ignore[attr-defined]
    sys.path.insert(0, str(checkout / "src"))
    import openpi.models_pytorch.gemma_pytorch as theirs
    from openpi.models_pytorch.pi0_pytorch import PI0Pytorch

    configurations, whole = theirs.CONFIG_MAPPING, theirs.PaliGemmaForConditionalGeneration

    class Small:
        def __getitem__(self, name: str) -> Any:
            words = {"vocab_size": small.WORDS} if name == "gemma" else {}
            return lambda **given: configurations[name](**{**given, **words})

    def paligemma(config: Any) -> Any:
        vision, text = config.vision_config, config.text_config
        vision.hidden_size, vision.intermediate_size, vision.num_hidden_layers = small.VISION
        vision.num_attention_heads = small.VISION_HEADS
        vision.image_size, vision.patch_size = small.SIDE, small.PATCH
        vision.projection_dim = text.hidden_size
        text.vocab_size = config._vocab_size = small.WORDS
        config.image_token_index = small.WORDS - 1
        return whole(config=config)

    theirs.CONFIG_MAPPING = Small()
    theirs.PaliGemmaForConditionalGeneration = paligemma
    return PI0Pytorch


def actions(made: Any, kind: str) -> np.ndarray:
    sizes = {"action_dim": small.ACTIONS, "action_horizon": small.CHUNK, "dtype": "float32"}
    variants = {"paligemma_variant": "vlm", "action_expert_variant": "expert"}
    config = SimpleNamespace(pi05=kind == "pi05", pytorch_compile_mode=None, **sizes, **variants)
    policy = made(config).eval().float()
    with torch.no_grad():
        for name, one in policy.named_parameters():
            # Files have the embedding by the name of the head that it is tied to.
            tied = name.replace("model.language_model.embed_tokens", "lm_head")
            one.copy_(torch.from_numpy(small.weight(tied, tuple(one.shape))))
    seen = {name: torch.from_numpy(one) for name, one in small.observation(kind).items()}
    names = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
    pictures = [seen["pictures"][:1], seen["pictures"][1:], torch.full((1, 3, 224, 224), -1.0)]
    given = SimpleNamespace(
        images=dict(zip(names, pictures, strict=True)),
        image_masks={name: torch.tensor([name != names[2]]) for name in names},
        tokenized_prompt=seen["tokens"],
        tokenized_prompt_mask=seen["mask"],
        state=seen["state"],
        token_ar_mask=None,
        token_loss_mask=None,
    )
    return np.asarray(policy.sample_actions("cpu", given, noise=seen["noise"]))


if __name__ == "__main__":
    found = openpi(Path(sys.argv[1]))
    np.savez(sys.argv[2], **{kind: actions(found, kind) for kind in small.PROMPT})
