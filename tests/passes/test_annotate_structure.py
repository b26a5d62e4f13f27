"""annotate-structure: blocks by name and by repetition, stages by dataflow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import onnx_ir as ir
import pytest
import torch
from support import exported
from support.zoo_names import their_pi0
from transformers import (
    BertConfig,
    BertModel,
    ResNetConfig,
    ResNetModel,
    WhisperConfig,
    WhisperModel,
)

from vlacut.frontends.torch import TorchPhase, program_from_module, program_from_torch
from vlacut.ir.annotation import STRUCTURE, Structure
from vlacut.ir.graphs import value_spec
from vlacut.ir.program import Phase, Program
from vlacut_models.pi0 import PRESETS
from vlacut_passes.annotate_structure import AnnotateStructure

Made = tuple[torch.nn.Module, torch.Tensor]


def bert() -> Made:
    config = BertConfig(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=64,
        vocab_size=50,
    )
    model = BertModel(config, add_pooling_layer=False).eval()
    words = torch.zeros(1, 8, dtype=torch.long)
    return exported.Wrapped(model, lambda m, x: m(x).last_hidden_state), words


def whisper() -> Made:
    config = WhisperConfig(
        d_model=32,
        encoder_layers=3,
        decoder_layers=4,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        vocab_size=50,
        num_mel_bins=32,
        max_source_positions=16,
        max_target_positions=16,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    model = WhisperModel(config).eval()

    def call(m: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = m(x, decoder_inputs_embeds=x[:, :6], use_cache=False).last_hidden_state
        return out

    return exported.Wrapped(model, call), torch.randn(1, 32, 32)


def resnet() -> Made:
    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 32], depths=[2, 3, 4], layer_type="basic"
    )
    model = ResNetModel(config).eval()
    return exported.Wrapped(model, lambda m, x: m(x).last_hidden_state), torch.randn(1, 3, 32, 32)


class OneStepOfPi0(torch.nn.Module):
    """The velocity that the PI0 of transformers predicts, everything in one graph."""

    def __init__(self, policy: torch.nn.Module) -> None:
        super().__init__()
        self.policy = policy

    def forward(
        self,
        state: torch.Tensor,
        noise: torch.Tensor,
        timestep: torch.Tensor,
        input_ids: torch.Tensor,
        pixel_values: torch.Tensor,
        pixel_attention_mask: torch.Tensor,
        attention_mask: torch.Tensor,
    ) -> torch.Tensor:
        masks = {"pixel_attention_mask": pixel_attention_mask, "attention_mask": attention_mask}
        made = self.policy(
            state, noise, timestep, input_ids=input_ids, pixel_values=pixel_values, **masks
        )
        velocity: torch.Tensor = made.logits
        return velocity


def pi0() -> Program:
    tiny = PRESETS["tiny"]
    pixels = torch.zeros(1, tiny.cameras, 3, tiny.image, tiny.image)
    image_tokens = torch.full((1, tiny.visual), tiny.vocabulary)
    ids = torch.cat([image_tokens, torch.ones(1, tiny.prompt, dtype=torch.int64)], dim=1)
    given = (
        torch.zeros(1, tiny.state),
        torch.zeros(1, tiny.chunk, tiny.state),
        torch.ones(1),
        ids,
        pixels,
        torch.ones(1, tiny.cameras, dtype=torch.bool),
        torch.ones_like(ids),
    )
    return program_from_module(OneStepOfPi0(their_pi0(tiny)), given)


def annotated(model: ir.Model) -> dict[str, Structure]:
    AnnotateStructure().run(exported.program(model))
    return {str(node.name): STRUCTURE.get(node) for node in model.graph}


def strip_names(model: ir.Model) -> None:
    for node in model.graph:
        node.metadata_props.clear()


def blocks(found: dict[str, Structure]) -> dict[str, frozenset[str]]:
    """Operators of every repeated block."""
    members: dict[str, set[str]] = {}
    for name, structure in found.items():
        if structure.block.rsplit(".", 1)[-1].isdigit() and "segment" not in structure.block:
            members.setdefault(structure.block, set()).add(name)
    return {block: frozenset(names) for block, names in members.items()}


def stages_of_runs(found: dict[str, Structure]) -> dict[str, str]:
    return {found[next(iter(names))].block.rsplit(".", 1)[0]: found[next(iter(names))].stage
            for names in blocks(found).values()}  # fmt: skip


def test_a_language_model_by_its_names() -> None:
    found = annotated(exported.model_of(exported.llama, 23))
    assert set(blocks(found)) == {f"model.layers.{index}" for index in range(4)}
    by_place = {str(item): name for name, item in found.items()}
    assert "backbone:model.layers.2:mlp.up_proj" in by_place
    assert "backbone:model.layers.3:self_attn" in by_place
    assert "encoder:model.embed_tokens" in by_place
    assert "decoder:model.norm" in by_place
    counts = Counter(item.block for item in found.values())
    assert len({counts[f"model.layers.{index}"] for index in range(4)}) == 1


def test_an_image_encoder_by_its_names() -> None:
    found = annotated(exported.model_of(exported.vit))
    assert stages_of_runs(found) == {"model.layers": "backbone"}
    patches = [
        item for item in found.values() if item.block.endswith("patch_embeddings.projection")
    ]
    assert patches == [Structure("encoder", "model.embeddings.patch_embeddings.projection", "")]


@pytest.mark.slow
def test_an_encoder_decoder_has_its_backbone_where_the_weights_are() -> None:
    found = annotated(exported.model_of(whisper))
    assert stages_of_runs(found) == {
        "model.encoder.layers": "encoder",
        "model.decoder.layers": "backbone",
    }


@pytest.mark.slow
def test_the_pi0_of_transformers_has_three_stages_and_the_blocks_of_each() -> None:
    program = pi0()
    AnnotateStructure().run(program)
    found = {str(node.name): STRUCTURE.get(node) for node in program.phases[0].model.graph}
    tiny, vlm = PRESETS["tiny"], "policy.model.vlm"
    runs = {
        f"{vlm}.vision_tower.encoder.layers": ("encoder", tiny.siglip.depth),
        f"{vlm}.language_model.layers": ("backbone", tiny.layers),
        "policy.model.dit.layers": ("decoder", tiny.layers),
    }
    assert stages_of_runs(found) == {run: stage for run, (stage, _) in runs.items()}
    assert set(blocks(found)) == {
        f"{run}.{index}" for run, (_, depth) in runs.items() for index in range(depth)
    }
    stage_of = {item.block: item.stage for item in found.values()}
    assert stage_of[f"{vlm}.multi_modal_projector.linear"] == "encoder"
    assert stage_of["policy.embed_action_time.action_in_proj"] == "decoder"
    assert stage_of["policy.action_out_proj"] == "decoder"


def test_entries_that_differ_in_a_projection_are_blocks_all_the_same() -> None:
    found = blocks(annotated(exported.export(*resnet())))
    assert [
        sum(name.startswith(f"model.encoder.stages.{at}.") for name in found) for at in range(3)
    ] == [2, 3, 4]


def test_a_list_of_unlike_layers_is_no_list_of_blocks() -> None:
    layers = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 8))
    found = annotated(
        exported.export(exported.Wrapped(layers, lambda m, x: m(x)), torch.zeros(1, 8))
    )
    assert {item.stage for item in found.values()} == {"backbone"}
    assert {item.place for item in found.values()} == {""}


@pytest.mark.parametrize(
    ("make", "opset"),
    [(exported.llama, 23), (exported.llama, 20), (exported.vit, 20), (bert, 20), (whisper, 20)],
)
def test_without_names_the_blocks_are_the_same(make: Callable[[], Made], opset: int) -> None:
    model = exported.model_of(make, opset)
    named = annotated(model)
    strip_names(model)
    nameless = annotated(model)
    assert set(blocks(nameless).values()) == set(blocks(named).values())
    assert all(name.startswith("block.") for name in blocks(nameless))
    assert {name: item.stage for name, item in nameless.items()} == {
        name: item.stage for name, item in named.items()
    }


def test_copies_of_a_nameless_block_have_the_same_places() -> None:
    model = exported.model_of(exported.llama)
    strip_names(model)
    places: dict[str, list[str]] = {}
    for item in annotated(model).values():
        if item.block.startswith("block."):
            places.setdefault(item.block, []).append(item.place)
    assert len({tuple(items) for items in places.values()}) == 1
    assert "matmul.0" in places["block.0.0"]


@pytest.mark.slow
def test_phases_that_share_weights_share_blocks() -> None:
    module, words = exported.llama()
    steps = [
        TorchPhase(name, module, {f"{name}_ids": words[:, :tokens]}, (f"{name}_out",))
        for name, tokens in (("prefill", 16), ("decode", 1))
    ]
    program = program_from_torch("two", steps, ["prefill_ids", "decode_ids"], ["decode_out"])
    check_shared(program, "model.layers")
    for phase in program.phases:
        strip_names(phase.model)
    check_shared(program, "block.0")


def check_shared(program: Program, prefix: str) -> None:
    AnnotateStructure().run(program)
    for phase in program.phases:
        found = {str(node.name): STRUCTURE.get(node) for node in phase.model.graph}
        assert set(blocks(found)) == {f"{prefix}.{index}" for index in range(4)}
        assert {found[name].stage for names in blocks(found).values() for name in names} == {
            "backbone"
        }
        assert {item.stage for item in found.values()} == {"encoder", "backbone", "decoder"}


def test_what_an_earlier_phase_feeds_the_backbone_is_encoder_and_what_follows_decoder() -> None:
    """Three phases of their own weights: an image tower, a larger language model, a small head."""
    made = []
    for name, width, inner, tokens in (
        ("vision", 16, 16, 4),
        ("llm", 16, 96, 4),
        ("head", 16, 8, 4),
    ):
        module = torch.nn.Sequential(*(_Block(width, inner) for _ in range(3)))
        model = exported.export(module, torch.zeros(1, tokens, width))
        model.graph.outputs[0].name = f"{name}_out"
        made.append((name, model))
    for (_, model), source in zip(made, ("image", "vision_out", "llm_out"), strict=True):
        model.graph.inputs[0].name = source
    phases = tuple(Phase(name, model) for name, model in made)
    inputs = (value_spec(phases[0].model.graph.inputs[0]),)
    outputs = (value_spec(phases[2].model.graph.outputs[0]),)
    program = Program("three", _rename_weights(phases), inputs, outputs)
    AnnotateStructure().run(program)
    found = [{STRUCTURE.get(node).stage for node in phase.model.graph} for phase in phases]
    assert found == [{"encoder"}, {"backbone"}, {"decoder"}]
    named = {STRUCTURE.get(node).block for phase in phases for node in phase.model.graph}
    assert {"0", "1", "2", "llm.0", "head.2"} <= named


def _rename_weights(phases: tuple[Phase, ...]) -> tuple[Phase, ...]:
    """Give every phase's weights names of their own."""
    for phase in phases:
        graph = phase.model.graph
        for value in list(graph.initializers.values()):
            old = str(value.name)
            del graph.initializers[old]
            value.name = f"{phase.name}.{old}"
            graph.initializers[value.name] = value
    return phases


class _Block(torch.nn.Module):
    """x + down(relu(up(x)))."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.up, self.down = torch.nn.Linear(width, inner), torch.nn.Linear(inner, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = x + self.down(torch.relu(self.up(x)))
        return out
