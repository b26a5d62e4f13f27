"""The zoo: what tiny presets compute and depend on, and the sizes of tiny and full ones."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from support.cutting import Reference
from support.slow import quick
from support.zoo import NAMES, matrix_flops, model, module, observation, program, run, weights
from torch.utils.flop_counter import FlopCounterMode

from vlacut.errors import ModelError
from vlacut.ir.verifier import verify

QUICK = ("vit_mlp", "openvla", "roboflamingo")  # tracing each of the others takes about 20 s
FULL = [(name, "full") for name in NAMES] + [("cogact", "large")]

# Some names of every part of the published checkpoints; a model without one is not here.
PUBLISHED = {
    "openvla": """
        vision_backbone.featurizer.cls_token
        vision_backbone.featurizer.reg_token
        vision_backbone.featurizer.pos_embed
        vision_backbone.featurizer.patch_embed.proj.weight
        vision_backbone.featurizer.blocks.0.ls1.scale_factor
        vision_backbone.featurizer.blocks.0.attn.qkv.bias
        vision_backbone.fused_featurizer.blocks.0.mlp.fc1.weight
        projector.fc3.weight
        language_model.model.embed_tokens.weight
        language_model.model.layers.0.self_attn.q_proj.weight
        language_model.model.layers.0.mlp.gate_proj.weight
        language_model.model.layers.0.post_attention_layernorm.weight
        language_model.model.norm.weight
        language_model.lm_head.weight""",
    "cogact": """
        vision_backbone.dino_featurizer.blocks.0.ls1.gamma
        vision_backbone.siglip_featurizer.blocks.0.attn.proj.weight
        projector.projector.4.weight
        llm_backbone.llm.model.layers.0.self_attn.o_proj.weight
        action_model.net.x_embedder.linear.weight
        action_model.net.t_embedder.mlp.2.weight
        action_model.net.z_embedder.uncondition
        action_model.net.positional_embedding
        action_model.net.blocks.0.attn.qkv.weight
        action_model.net.blocks.0.mlp.fc2.bias
        action_model.net.final_layer.linear.bias""",
    "openvla_oft": """
        vision_backbone.fused_featurizer.pos_embed
        language_model.model.layers.0.mlp.down_proj.weight
        proprio_projector.fc1.bias
        action_head.model.layer_norm1.weight
        action_head.model.mlp_resnet_blocks.1.ffn.1.weight
        action_head.model.fc2.bias""",
    "pi0": """
        paligemma_with_expert.paligemma.model.vision_tower.vision_model.embeddings.position_embedding.weight
        paligemma_with_expert.paligemma.model.vision_tower.vision_model.encoder.layers.0.self_attn.out_proj.bias
        paligemma_with_expert.paligemma.model.vision_tower.vision_model.post_layernorm.weight
        paligemma_with_expert.paligemma.model.multi_modal_projector.linear.weight
        paligemma_with_expert.paligemma.model.language_model.layers.0.self_attn.k_proj.weight
        paligemma_with_expert.paligemma.lm_head.weight
        paligemma_with_expert.gemma_expert.model.layers.0.mlp.up_proj.weight
        paligemma_with_expert.gemma_expert.model.norm.weight
        state_proj.weight
        action_time_mlp_in.weight""",
    "smolvla": """
        model.vlm_with_expert.vlm.model.vision_model.encoder.layers.0.layer_norm1.weight
        model.vlm_with_expert.vlm.model.vision_model.embeddings.patch_embedding.bias
        model.vlm_with_expert.vlm.model.connector.modality_projection.proj.weight
        model.vlm_with_expert.vlm.model.text_model.embed_tokens.weight
        model.vlm_with_expert.vlm.model.text_model.layers.0.self_attn.v_proj.weight
        model.vlm_with_expert.lm_expert.layers.1.self_attn.k_proj.weight
        model.vlm_with_expert.lm_expert.norm.weight
        model.state_proj.bias
        model.action_out_proj.weight""",
    "roboflamingo": """
        vision_encoder.visual.class_embedding
        vision_encoder.visual.transformer.resblocks.0.attn.in_proj_weight
        vision_encoder.visual.transformer.resblocks.0.mlp.c_proj.bias
        perceiver.latents
        perceiver.layers.0.0.to_kv.weight
        perceiver.layers.0.1.3.weight
        lang_encoder.transformer.wte.weight
        lang_encoder.transformer.blocks.0.gated_cross_attn_layer.attn_gate
        lang_encoder.transformer.blocks.0.decoder_layer.attn.Wqkv.weight
        lang_encoder.transformer.blocks.0.decoder_layer.mlp.mlp_up.weight
        lm_head.rnn.weight_hh_l1
        lm_head.actions.mlp.0.weight
        lm_head.gripper.mlp.0.bias""",
    "vit_mlp": """
        vit.embeddings.cls_token
        vit.embeddings.patch_embeddings.projection.weight
        vit.layernorm.weight""",
}


@pytest.mark.parametrize("name", quick(NAMES, *QUICK))
def test_phases_compute_what_the_policy_does(name: str) -> None:
    given = observation(program(name))
    expected, made = model(name).step(given), run(name, given)
    assert list(made) == list(expected)
    for item, array in expected.items():
        # Actions up to 4 are held to 1e-5, larger ones to as much of the largest.
        allowed = 1e-5 * max(1.0, np.abs(array).max() / 4)
        np.testing.assert_allclose(made[item], array, rtol=0, atol=allowed, err_msg=item)


@pytest.mark.parametrize("name", quick(NAMES, *QUICK))
def test_an_action_depends_on_every_input(name: str) -> None:
    given = observation(program(name))
    usual = run(name, given)["action"]
    numbers = np.random.default_rng(0)
    for item, array in given.items():
        if array.dtype == np.float32:
            other = array + numbers.standard_normal(array.shape, dtype=np.float32)
        else:  # the instruction in another order; or its second half hidden
            half = np.arange(array.shape[1]) < array.shape[1] // 2
            other = array & half if array.dtype == np.bool_ else np.roll(array, 1, axis=1)
        changed = run(name, {**given, item: other})["action"]
        assert np.abs(changed - usual).max() > 3e-3, item


@pytest.mark.parametrize("name", quick(NAMES, *QUICK))
def test_programs_are_normal_and_have_the_published_names(name: str) -> None:
    made = program(name)
    verify(made)
    assert set(PUBLISHED.get(name, "").split()) <= set(weights(made))
    assert all(phase.trips == 1 or phase.carried for phase in made.phases)


@pytest.mark.parametrize("name", quick(NAMES, *QUICK))
def test_sizes_follow_from_the_architecture(name: str) -> None:
    own = dict(model(name).policy.named_parameters())
    read = {item: count for item, count in weights(program(name)).items() if item in own}
    assert sum(read.values()) == model(name).parameters
    flops = {phase.name: matrix_flops(phase.model.graph) for phase in program(name).phases}
    assert flops == dict(model(name).flops)


def test_numbers_come_from_a_seed_and_leave_the_callers_alone() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first, second = module("vit_mlp").vit_mlp("tiny"), module("vit_mlp").vit_mlp("tiny")
    assert torch.equal(torch.random.get_rng_state(), before)
    for name, array in observation(first).items():
        np.testing.assert_array_equal(observation(second)[name], array)


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_preset_is_refused_with_those_there_are(name: str) -> None:
    make = getattr(module(name), name)
    with pytest.raises(ModelError, match=r"huge.*full.*tiny"):
        make("huge")
    assert set(make.presets) >= {"full", "tiny"}


@pytest.mark.parametrize(("name", "preset"), FULL)
def test_an_outline_says_the_size_without_tracing(name: str, preset: str) -> None:
    outline, of = getattr(module(name), name).outline(preset), model(name, preset)
    held = list(of.policy.parameters())
    assert outline.parameters == sum(item.numel() for item in held)
    assert outline.weight_bytes == 2 * outline.parameters  # bfloat16
    assert outline.phases == {phase.name: phase.trips for phase in of.phases}


def test_what_is_remembered_makes_the_next_step_another() -> None:
    made = program("roboflamingo")
    assert [state.input for state in made.state] == ["memory.hidden", "memory.cell"]
    assert [spec.name for spec in made.inputs] == ["pixel_values", "input_ids"]
    assert [spec.name for spec in made.outputs] == ["action"]
    reference = Reference(made)
    given = observation(made)
    first, second = (reference.step(given)["action"] for _ in range(2))
    np.testing.assert_allclose(first, run("roboflamingo", given)["action"], rtol=0, atol=1e-6)
    assert np.abs(second - first).max() > 1e-3
    reference.reset()
    np.testing.assert_array_equal(reference.step(given)["action"], first)


# Counts of the checkpoints openvla/openvla-7b, lerobot/smolvla_base and lerobot/pi0_base.
@pytest.mark.parametrize(
    ("name", "published"),
    [("openvla", 7_541_237_184), ("smolvla", 450_046_176), ("pi0", 3_501_372_176)],
)
def test_full_models_have_as_many_parameters_as_published(name: str, published: int) -> None:
    assert sum(item.numel() for item in model(name, "full").policy.parameters()) == published


# What RoboECC's table I says of bf16 weights, in GiB: all of OpenVLA and CogACT, and their LLMs'
# layers.
@pytest.mark.parametrize(
    ("name", "preset", "total", "layers"),
    [("openvla", "full", 14.1, 12.1), ("cogact", "large", 14.5, 12.0)],
)
def test_full_models_weigh_what_roboecc_says(
    name: str, preset: str, total: float, layers: float
) -> None:
    held = dict(model(name, preset).policy.named_parameters())
    sizes = {item: 2 * tensor.numel() / 2**30 for item, tensor in held.items()}
    assert sum(sizes.values()) == pytest.approx(total, rel=0.02)
    llm = sum(size for item, size in sizes.items() if "model.layers." in item)
    assert llm == pytest.approx(layers, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "preset"), FULL)
def test_full_programs_need_no_weights_and_have_the_sizes_worked_out(
    name: str, preset: str
) -> None:
    made, of = getattr(module(name), name)(preset), model(name, preset)
    verify(made)
    held = weights(made)
    unknown = {
        item
        for phase in made.phases
        for item, value in phase.model.graph.initializers.items()
        if value.const_value is None
    }
    assert unknown <= set(dict(of.policy.named_parameters()))
    assert sum(held[item] for item in unknown) == of.parameters
    counted = {phase.name: matrix_flops(phase.model.graph) for phase in made.phases}
    assert counted == dict(of.flops)
    assert set(PUBLISHED.get(name, "").split()) <= unknown


@pytest.mark.parametrize(("name", "preset"), quick(FULL, ("vit_mlp", "full"), ("smolvla", "full")))
def test_torch_counts_the_same_flops(name: str, preset: str) -> None:
    of = model(name, preset)
    policy = copy.deepcopy(of.policy).to("meta")  # its real buffers, too
    for phase in of.phases:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            getattr(policy, phase.method)(*phase.inputs.values())
        assert counter.get_total_flops() == of.flops[phase.name], phase.name
