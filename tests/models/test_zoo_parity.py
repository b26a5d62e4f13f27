"""The zoo's parts against transformers, torch and plain arithmetic, with the same weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from hypothesis import given as each
from hypothesis import settings
from hypothesis import strategies as st
from support.zoo import model, module, observation, program, run
from support.zoo_names import clip_names, dinov2_names, siglip_names, their_pi0, their_pi0_name
from torch import Tensor
from transformers.models.smolvlm.modeling_smolvlm import SmolVLMConnector, SmolVLMVisionTransformer

from vlacut_models.cogact import ddim_schedule
from vlacut_models.layers.clip import ClipTower
from vlacut_models.layers.decoder import mix
from vlacut_models.layers.flamingo import alibi
from vlacut_models.layers.prismatic import Tower
from vlacut_models.layers.vit import VisionTower
from vlacut_models.roboflamingo import LstmStep


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def copied(target: torch.nn.Module, state: Mapping[str, Tensor]) -> None:
    """All of a module's parameters from a state that may hold more; its own shapes."""
    own = target.state_dict()
    target.load_state_dict({name: state[name].reshape(own[name].shape) for name in own})


def close(made: Tensor, expected: Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(made, expected, rtol=0, atol=atol)


def given(name: str) -> dict[str, Tensor]:
    return {item: torch.from_numpy(array) for item, array in observation(program(name)).items()}


@pytest.mark.parametrize("seed", range(3))
def test_openvla_says_what_llama_says_without_a_buffer(seed: int) -> None:
    policy = model("openvla").policy
    numbers = torch.Generator().manual_seed(seed)
    pixels = torch.randn(1, 6, 56, 56, generator=numbers)
    ids = torch.randint(1, 64, (1, 8), generator=numbers)
    words = policy.language_model.model.embed_tokens
    text = words(ids)
    hidden = torch.cat([text[:, :1], policy.vision(pixels), text[:, 1:]], dim=1)
    tokens: list[int] = []
    for _ in range(7):
        logits = policy.language_model(inputs_embeds=hidden, use_cache=False).logits
        tokens.append(int(logits[0, -1].argmax()))
        hidden = torch.cat([hidden, words(torch.tensor([tokens[-1:]]))], dim=1)
    arrays = {"pixel_values": pixels.numpy(), "input_ids": ids.numpy()}
    edges = np.linspace(-1, 1, 256)
    bins = np.clip(320 - np.array([tokens]) - 1, 0, 254)
    expected = (edges[:-1] + edges[1:])[bins] / 2
    np.testing.assert_allclose(run("openvla", arrays)["action"], expected, atol=1e-6)


def test_pi0_is_that_of_transformers() -> None:
    policy, tiny = model("pi0").policy, module("pi0").PRESETS["tiny"]
    theirs = their_pi0(tiny)
    state = {their_pi0_name(name): tensor for name, tensor in policy.state_dict().items()}
    words = state.pop("words")
    state["model.vlm.language_model.embed_tokens.weight"] = words
    state["model.dit.embed_tokens.weight"] = words.new_zeros(tiny.vocabulary, tiny.expert_width)
    copied(theirs, state)
    seen = given("pi0")
    seen["input_mask"][:, -3:] = False
    images = torch.full((1, tiny.visual), tiny.vocabulary)
    ones = torch.ones(1, tiny.visual, dtype=torch.int64)
    expected = theirs.sample_actions(
        state=seen["state"],
        input_ids=torch.cat([images, seen["input_ids"]], dim=1),
        pixel_values=seen["pixel_values"][None],
        noise=seen["noise"],
        attention_mask=torch.cat([ones, seen["input_mask"].to(torch.int64)], dim=1),
        pixel_attention_mask=torch.ones(1, tiny.cameras, dtype=torch.bool),
    )
    made = run("pi0", {name: tensor.numpy() for name, tensor in seen.items()})
    # Theirs computes sines of angles up to 1,571 in float32; ours are a table made in float64.
    close(torch.from_numpy(made["action"]), expected, 1e-4)


def test_smolvla_sees_what_smolvlm_sees() -> None:
    policy, tiny = model("smolvla").policy, module("smolvla").PRESETS["tiny"]
    vlm = policy.model.vlm_with_expert.vlm.model
    config = hf.SmolVLMConfig(
        vision_config={
            "hidden_size": tiny.siglip.width,
            "intermediate_size": tiny.siglip.hidden,
            "num_hidden_layers": tiny.siglip.depth,
            "num_attention_heads": tiny.siglip.heads,
            "image_size": tiny.image,
            "patch_size": tiny.patch,
        },
        text_config={"model_type": "llama", "hidden_size": tiny.width},
        scale_factor=tiny.shuffle,
    )
    tower, connector = SmolVLMVisionTransformer(config.vision_config), SmolVLMConnector(config)
    copied(tower, vlm.vision_model.state_dict())
    copied(connector, vlm.connector.state_dict())
    pixels = torch.randn(2, 3, tiny.image, tiny.image)
    expected = connector(tower.eval()(pixels).last_hidden_state)
    close(policy.vision(pixels), expected.reshape(1, -1, tiny.width))


def test_smolvla_keeps_the_keys_that_llama_keeps() -> None:
    policy, tiny = model("smolvla").policy, module("smolvla").PRESETS["tiny"]
    ours = policy.model.vlm_with_expert.vlm.model.text_model
    theirs = hf.LlamaModel(module("smolvla").llama(tiny, tiny.width, tiny.hidden)).eval()
    copied(theirs, ours.state_dict())
    seen, visual = given("smolvla"), torch.randn(1, tiny.visual, tiny.width)
    seen["input_mask"][:, -2:] = False
    scale = math.sqrt(tiny.width)
    robot = policy.model.state_proj(seen["state"])[:, None]
    hidden = torch.cat([visual * scale, ours.embed_tokens(seen["input_ids"]) * scale, robot], dim=1)
    shown = [1] * tiny.visual + seen["input_mask"][0].long().tolist() + [1]
    mask = torch.zeros(tiny.prefix, tiny.prefix)
    mask[:, [index for index, show in enumerate(shown) if not show]] = -1e9
    mask[:-1, -1] = -1e9
    kept = theirs(
        inputs_embeds=hidden,
        attention_mask=mask[None, None],
        position_ids=torch.tensor([shown]).cumsum(dim=1) - 1,
        use_cache=True,
    ).past_key_values
    made = policy.prefix(visual, seen["input_ids"], seen["input_mask"], seen["state"])[:-1]
    rows = [index for index, show in enumerate(shown) if show]
    for layer in range(tiny.layers):
        close(made[2 * layer][:, :, rows], kept.layers[layer].keys[:, :, rows], 1e-4)
        close(made[2 * layer + 1][:, :, rows], kept.layers[layer].values[:, :, rows], 1e-4)


@pytest.mark.parametrize("name", ["pi0", "smolvla"])
def test_padding_of_an_instruction_changes_nothing(name: str) -> None:
    arrays = observation(program(name))
    arrays["input_mask"] = np.arange(8)[None] < 5
    other = np.where(arrays["input_mask"], arrays["input_ids"], 7)
    first = run(name, arrays)["action"]
    np.testing.assert_allclose(
        run(name, {**arrays, "input_ids": other})["action"], first, atol=1e-6
    )


def test_actions_of_smolvla_do_not_see_later_ones_and_those_of_pi0_do() -> None:
    for name, blind in (("smolvla", True), ("pi0", False)):
        arrays = observation(program(name))
        noise = arrays["noise"].copy()
        noise[:, 5:] += 1
        change = run(name, {**arrays, "noise": noise})["action"] - run(name, arrays)["action"]
        assert (np.abs(change[:, :5]).max() < 1e-6) == blind
        assert np.abs(change[:, 5:]).max() > 0.1


def test_cogacts_schedule_and_steps_are_those_of_ddim() -> None:
    times, clean = ddim_schedule(10)
    assert times.tolist() == [90, 80, 70, 60, 50, 40, 30, 20, 10, 0]
    left = np.cos((np.arange(101) / 100 + 0.008) / 1.008 * np.pi / 2) ** 2
    shares = np.append(left[1:][times.numpy()] / left[0], 1.0)
    np.testing.assert_allclose(clean.numpy(), shares, rtol=1e-5)
    policy, actions = model("cogact").policy, torch.randn(1, 16, 7)
    cognition, net = torch.randn(1, 1, 128), policy.action_model.net
    made, step = policy.denoise(actions, torch.tensor([3]), cognition)
    with_it = net(actions, torch.tensor([60]), cognition)
    without = net(actions, torch.tensor([60]), net.z_embedder.uncondition[None])
    noise = (1.5 * with_it - 0.5 * without).numpy()
    shown = (actions.numpy() - np.sqrt(1 - shares[3]) * noise) / np.sqrt(shares[3])
    expected = np.sqrt(shares[4]) * shown + np.sqrt(1 - shares[4]) * noise
    np.testing.assert_allclose(made.numpy(), expected, rtol=1e-4, atol=1e-4)
    assert step.tolist() == [4]


@pytest.mark.parametrize("registers", [0, 5])
def test_towers_are_those_of_transformers(registers: int) -> None:
    ours = VisionTower(
        image=28, patch=14, width=32, depth=3, heads=4, hidden=64, registers=registers,
        layer_scale="gamma" if registers else "",
    ).eval()  # fmt: skip
    for parameter in ours.parameters():
        parameter.normal_(0, 0.3)
    sizes = {
        "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 28,
        "patch_size": 14, "hidden_act": "gelu",
    }  # fmt: skip
    theirs: Any
    if registers:
        config = hf.Dinov2WithRegistersConfig(
            **sizes, mlp_ratio=2, num_register_tokens=4, layer_norm_eps=1e-6
        )
        theirs = hf.Dinov2WithRegistersModel(config).eval()
        copied(theirs, dict(dinov2_names(ours.state_dict())))
    else:
        config = hf.SiglipVisionConfig(**sizes, intermediate_size=64, vision_use_head=False)
        theirs = hf.SiglipVisionModel(config).eval()
        copied(theirs, dict(siglip_names(ours.state_dict())))
    pixels = torch.randn(2, 3, 28, 28)
    states = theirs(pixels, output_hidden_states=True).hidden_states
    close(ours(pixels), states[-2][:, registers:], 1e-4)


@pytest.mark.parametrize("layers", [1, 3])
def test_a_written_out_lstm_is_torchs(layers: int) -> None:
    features, states = torch.randn(1, 6), (torch.randn(layers, 1, 5), torch.randn(layers, 1, 5))
    ours, theirs = LstmStep(6, 5, layers), torch.nn.LSTM(6, 5, layers)
    theirs.load_state_dict(ours.state_dict())
    for made, expected in zip(
        ours(features, *states), theirs(features[None], states)[1], strict=True
    ):
        close(made, expected, 1e-6)


@settings(max_examples=25, deadline=None)
@each(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.booleans())
def test_heads_that_share_keys_are_as_if_keys_were_repeated(
    groups: int, shared: int, count: int, keys: int, masked: bool
) -> None:
    query = torch.randn(1, groups * shared, count, 4)
    key, value = torch.randn(2, 1, groups, keys, 4)
    mask = torch.rand(1, 1, count, keys) < 0.7 if masked else torch.ones(1, 1, count, keys) > 0
    mask[..., 0] = True
    scores = query @ key.repeat_interleave(shared, dim=1).transpose(2, 3) / 2
    weights = scores.masked_fill(~mask, -torch.inf).softmax(dim=-1)
    expected = weights @ value.repeat_interleave(shared, dim=1)
    made = mix(query, key, value, mask if masked else None)
    close(made, expected.transpose(1, 2).flatten(2))


def test_biases_of_alibi_fall_with_the_distance() -> None:
    made = alibi(4, 3, torch.zeros(1))[0].numpy()
    for head, slope in enumerate((1 / 4, 1 / 16, 1 / 64, 1 / 256)):
        for row in range(3):
            expected = [-slope * (row - at) if at <= row else -np.inf for at in range(3)]
            np.testing.assert_allclose(made[head, row], expected)


def test_the_clip_tower_is_that_of_transformers() -> None:
    ours = ClipTower(Tower(32, 2, 4, 64), 28, 14).eval()
    for parameter in ours.parameters():
        parameter.normal_(0, 0.3)
    config = hf.CLIPVisionConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        image_size=28, patch_size=14, hidden_act="quick_gelu",
    )  # fmt: skip
    theirs = hf.CLIPVisionModel(config).eval()
    copied(theirs, dict(clip_names(ours.state_dict())))
    pixels = torch.randn(2, 3, 28, 28)
    close(ours(pixels), theirs(pixels).last_hidden_state[:, 1:], 1e-4)
