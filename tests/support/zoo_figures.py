"""Parameters and FLOPs of the zoo's models, by hand from their architectures.

Parameters are those that a control step reads: the last block of a tower that is read before it is
not among them. A multiplication with an addition is two FLOPs, in matrices and convolutions alone.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

Figures = dict[str, int]
REGISTERS = 5  # class token and registers of DINOv2
INNER = 512  # 8 heads of 64 in Flamingo's cross-attention


def linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def block(width: int, hidden: int) -> int:
    """Two norms, attention and MLP, everything with biases."""
    attention = 4 * linear(width, width)
    return 4 * width + attention + linear(width, hidden) + linear(hidden, width)


def block_flops(count: int, width: int, hidden: int) -> int:
    return 2 * count * (4 * width**2 + 2 * width * hidden) + 4 * count**2 * width


def patches(config: Any) -> int:
    return (config.image // config.patch) ** 2


def image_flops(config: Any, width: int) -> int:
    return 2 * patches(config) * 3 * config.patch**2 * width


# Prismatic: two towers without their last blocks, projector, Llama.


def towers(c: Any) -> int:
    total = 0
    for tower, scales, first in ((c.dino, 2, REGISTERS), (c.siglip, 0, 0)):
        image = linear(3 * c.patch**2, tower.width) + (patches(c) + first) * tower.width
        one = block(tower.width, tower.hidden) + scales * tower.width
        total += image + (tower.depth - 1) * one
    return total


def projector(c: Any) -> int:
    visual = c.dino.width + c.siglip.width
    last = linear(c.llm_width, c.llm_width)
    return linear(visual, 4 * visual) + linear(4 * visual, c.llm_width) + last


def vision_flops(c: Any, cameras: int = 1) -> int:
    total = 0
    for tower, first in ((c.dino, REGISTERS), (c.siglip, 0)):
        one = block_flops(patches(c) + first, tower.width, tower.hidden)
        total += image_flops(c, tower.width) + (tower.depth - 1) * one
    visual = c.dino.width + c.siglip.width
    weights = 4 * visual**2 + 4 * visual * c.llm_width + c.llm_width**2
    return cameras * (total + 2 * patches(c) * weights)


def llama_layer(c: Any) -> int:
    return 4 * c.llm_width**2 + 3 * c.llm_width * c.llm_hidden


def llama(c: Any, *, head: bool) -> int:
    words = (2 if head else 1) * c.padded * c.llm_width
    return words + c.layers * (llama_layer(c) + 2 * c.llm_width) + c.llm_width


def llama_flops(c: Any, count: int, keys: int) -> int:
    return c.layers * (2 * count * llama_layer(c) + 4 * count * keys * c.llm_width)


def openvla(c: Any) -> tuple[int, Figures]:
    head = 2 * c.llm_width * c.padded
    prefix = c.prompt + patches(c)
    flops = {
        "vision": vision_flops(c),
        "prefill": llama_flops(c, prefix, prefix) + head,
        "decode": llama_flops(c, 1, prefix + c.actions - 1) + head,
        "detokenize": 0,
    }
    return towers(c) + projector(c) + llama(c, head=True), flops


def cogact(c: Any) -> tuple[int, Figures]:
    width, actions, tokens = c.head.width, c.head.actions, c.head.chunk + 1
    inner = block(width, 4 * width) - 4 * width  # its norms have no parameters
    ends = linear(actions, width) + linear(width, actions)
    time, condition = linear(256, width) + linear(width, width), linear(c.llm_width, width)
    dit = ends + time + condition + c.llm_width + tokens * width + c.head.depth * inner
    prefix = c.prompt + patches(c)
    once = 2 * (256 * width + width**2)
    each = 2 * (c.llm_width * width + (c.head.chunk + tokens) * actions * width)
    each += c.head.depth * block_flops(tokens, width, 4 * width)
    flops = {
        "vision": vision_flops(c),
        "prefill": llama_flops(c, prefix, prefix) + 2 * c.llm_width * c.padded,
        "denoise": once + 2 * each,  # with and without the condition
        "unnormalize": 0,
    }
    return towers(c) + projector(c) + llama(c, head=True) + dit, flops


def openvla_oft(c: Any) -> tuple[int, Figures]:
    width, wide = c.llm_width, c.actions * c.llm_width
    state = linear(c.state, width) + linear(width, width)
    blocks = c.blocks * (2 * width + linear(width, width))
    head = 2 * wide + linear(wide, width) + blocks + 2 * width + linear(width, c.actions)
    count = c.cameras * patches(c) + 1 + c.prompt + c.actions * c.chunk + 1
    flops = {
        "vision": vision_flops(c, c.cameras),
        "language": llama_flops(c, count, count) + 2 * (c.state * width + width**2),
        "head": 2 * c.chunk * (wide * width + c.blocks * width**2 + width * c.actions),
    }
    return towers(c) + projector(c) + llama(c, head=False) + state + head, flops


# pi0 and SmolVLA: SigLIP, a decoder read for its keys and values, an expert, flow matching.


def siglip(c: Any) -> int:
    width = c.siglip.width
    image = linear(3 * c.patch**2, width) + patches(c) * width
    return image + c.siglip.depth * block(width, c.siglip.hidden) + 2 * width


def siglip_flops(c: Any) -> int:
    one = block_flops(patches(c), c.siglip.width, c.siglip.hidden)
    return c.cameras * (image_flops(c, c.siglip.width) + c.siglip.depth * one)


def keys_weights(c: Any, width: int) -> int:
    return 2 * width * c.groups * c.head_width


def rest_weights(c: Any, width: int, hidden: int) -> int:
    return 2 * width * c.heads * c.head_width + 3 * width * hidden


def flow(c: Any) -> int:
    width = c.expert_width
    ends = linear(c.state, width) + linear(width, c.state)
    return ends + linear(2 * width, width) + linear(width, width)


def flow_flops(c: Any) -> int:
    width = c.expert_width
    return 2 * c.chunk * (2 * c.state * width + 3 * width**2)


def prefix(c: Any) -> int:
    """All of the decoder but what is behind the last layer's keys and values, and the last norm."""
    keys, rest = keys_weights(c, c.width), rest_weights(c, c.width, c.hidden)
    return c.layers * (keys + c.width) + (c.layers - 1) * (rest + c.width)


def prefix_flops(c: Any, count: int) -> int:
    keys, rest = keys_weights(c, c.width), rest_weights(c, c.width, c.hidden)
    mix = 4 * count**2 * c.heads * c.head_width
    return c.layers * 2 * count * keys + (c.layers - 1) * (2 * count * rest + mix)


def pi0(c: Any) -> tuple[int, Figures]:
    width, tokens, before = c.expert_width, c.chunk + 1, c.visual + c.prompt
    layer = keys_weights(c, width) + rest_weights(c, width, c.expert_hidden)
    expert = c.layers * (layer + 2 * width) + width
    vlm = siglip(c) + linear(c.siglip.width, c.width) + c.vocabulary * c.width + prefix(c)
    mix = 4 * tokens * (before + tokens) * c.heads * c.head_width
    denoise = c.layers * (2 * tokens * layer + mix) + 2 * c.state * width + flow_flops(c)
    flops = {
        "vision": siglip_flops(c) + 2 * c.visual * c.siglip.width * c.width,
        "prefix": prefix_flops(c, before),
        "denoise": denoise,
    }
    return vlm + expert + linear(c.state, width) + flow(c), flops


def smolvla(c: Any) -> tuple[int, Figures]:
    width, before = c.expert_width, c.visual + c.prompt + 1
    joined = c.siglip.width * c.shuffle**2
    rest = rest_weights(c, width, c.expert_hidden)
    own, projected = keys_weights(c, width), 2 * (c.groups * c.head_width) ** 2
    half = c.layers // 2
    expert = half * (own + projected) + c.layers * (rest + 2 * width) + width
    words = c.vocabulary * c.width
    vlm = siglip(c) + joined * c.width + words + linear(c.state, c.width) + prefix(c)
    inner = 4 * c.chunk * c.heads * c.head_width
    even = 2 * c.chunk * (own + rest) + inner * (before + c.chunk)
    odd = 2 * c.chunk * rest + 2 * before * projected + inner * before
    flops = {
        "vision": siglip_flops(c) + 2 * c.visual * joined * c.width,
        "prefix": prefix_flops(c, before) + 2 * c.state * c.width,
        "denoise": half * (even + odd) + flow_flops(c),
    }
    return vlm + expert + flow(c), flops


def roboflamingo(c: Any) -> tuple[int, Figures]:
    media, width, tower = c.clip.width, c.width, c.clip
    image = 3 * c.patch**2 * media + (patches(c) + 2) * media + 2 * media
    clip = image + tower.depth * block(media, tower.hidden)
    resample = 4 * INNER * media + 8 * media**2
    perceiver = c.latents * media + c.resampler * (resample + 6 * media) + 2 * media
    gated = 2 * INNER * (width + media) + 8 * width**2
    layer = gated + 4 * width + 2 + 12 * width**2 + 4 * width
    llm = c.vocabulary * width + c.depth * layer + width
    inputs = [width] + [c.memory] * (c.cells - 1)
    lstm = sum(4 * c.memory * (inner + c.memory) for inner in inputs)
    widths = [c.memory, *c.mlp]
    steps = list(pairwise(widths))
    ends = [(widths[-1], c.pose), (widths[-1], 1)]
    mlps = sum(linear(*pair) for pair in [*steps, *steps, *ends])
    of_mlps = sum(before * after for before, after in [*steps, *steps, *ends])
    seen = patches(c) + c.latents
    one = 2 * (seen * 2 * INNER * media + c.latents * (2 * INNER * media + 8 * media**2))
    one += 4 * c.latents * seen * INNER
    blocks = tower.depth * block_flops(patches(c) + 1, media, tower.hidden)
    vision = image_flops(c, media) + blocks + c.resampler * one
    held = c.cameras * c.latents
    text = 2 * c.prompt * (2 * INNER * width + 20 * width**2) + 2 * held * 2 * INNER * media
    text += 4 * c.prompt * (held * INNER + c.prompt * width)
    flops = {
        "vision": c.cameras * vision,
        "language": c.depth * text,
        "head": 2 * (lstm + of_mlps),
    }
    return clip + perceiver + llm + lstm + 8 * c.memory * c.cells + mlps, flops


def vit_mlp(c: Any) -> tuple[int, Figures]:
    width, tokens = c.vit.width, patches(c) + 1
    image = linear(3 * c.patch**2, width) + (tokens + 1) * width
    pairs = [(width + c.state, c.hidden), (c.hidden, c.hidden), (c.hidden, c.actions * c.chunk)]
    mlp = sum(linear(*pair) for pair in pairs)
    vit = image + c.vit.depth * block(width, c.vit.hidden) + 2 * width
    blocks = c.vit.depth * block_flops(tokens, width, c.vit.hidden)
    rest = 2 * sum(before * after for before, after in pairs)
    return vit + mlp, {"policy": image_flops(c, width) + blocks + rest}
