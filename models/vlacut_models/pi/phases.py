"""Phases of a pi0 or pi05: weights into its network, and examples of what passes between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from vlacut.errors import ModelError
from vlacut.frontends.built import Built
from vlacut.frontends.prompts.tokens import Prompt
from vlacut.frontends.torch import TorchPhase
from vlacut.tensor.noise import NORMAL, Noise
from vlacut_models.layers.decoder import cache_names
from vlacut_models.layers.flow import FlowConfig, time_embeddings
from vlacut_models.pi.network import Pi05
from vlacut_models.pi.policy import Face, Policy
from vlacut_models.pi.sizes import sizes, tie
from vlacut_models.pi0 import Pi0
from vlacut_models.presets import on_shapes

PI0, PI05 = "pi0", "pi05"


def network(kind: str, made: FlowConfig, times: Tensor) -> Pi0:
    """The network of shapes, which `Checkpoint.fill` fills; `times` are float32 [steps]."""
    found = on_shapes(lambda: (Pi05 if kind == PI05 else Pi0)(made), torch.float32)
    # In the checkpoint, but the expert says no words: a table as large as the language model's.
    del found.paligemma_with_expert.gemma_expert.lm_head
    found.times = time_embeddings(times, made.expert_width)
    return found


def built(
    kind: str,
    face: Face,
    prompt: Prompt,
    inputs: tuple[str, str],
    weights: dict[str, Tensor],
    where: Path,
    chunk: int,
    times: Tensor,
    fill: Callable[[nn.Module, Mapping[str, Tensor]], None],
    examples: Mapping[str, Tensor],
    called: Callable[[str], str],
    notes: Sequence[str] = (),
) -> Built:
    """The policy of a checkpoint in four phases; computed in float32 whatever the file's types.

    Args:
        kind: `PI0` or `PI05`.
        face: of the robot.
        prompt: of the task.
        inputs: what tokens and mask are called, where they are inputs.
        weights: of the file, by the published names.
        where: of the file, for errors.
        chunk: actions in a chunk.
        times: of the steps, float32 [steps].
        fill: gives a module its weights.
        examples: pictures and vectors by the names that the face has.
        called: what the robot calls one of them.
        notes: lines on what was taken for granted.

    Raises ModelError where weights are of another policy.
    """
    tie(weights)
    if kind == PI05 and "state_proj.weight" in weights:
        raise ModelError(f"{where}: its weights are pi0's, and the policy is pi05")
    made = sizes(where, weights, len(face.cameras), prompt.length, chunk, len(times))
    if made.image != face.side:
        raise ModelError(f"{where}: reads pictures of {made.image} pixels, not of {face.side}")
    _check_words(where, prompt, made.vocabulary)
    found = network(kind, made, times)
    wanted = found.state_dict()
    fill(found, {name: one.float() for name, one in weights.items() if name in wanted})
    if isinstance(found, Pi05):
        found.settle()
    policy = Policy(face, found, prompt).eval().requires_grad_(False)
    pictures = {called(name): examples[name] for name in face.cameras}
    state = {called(name): examples[name] for name in face.vectors}
    phases = _phases(policy, made, prompt, inputs, pictures, state)
    read = state if policy.reads_state or face.relative else {}
    tokens = inputs if not (policy.fixed or policy.words) else ()
    if not read:
        notes = [*notes, f"{kind} reads no state here: {', '.join(state)} is no input"]
    observation = [*pictures, *read, *tokens, "noise"]
    return Built(phases, observation, (Noise("noise", NORMAL, 0.0, 1.0),), notes)


def _check_words(where: Path, prompt: Prompt, vocabulary: int) -> None:
    """Raise ModelError if the prompt has tokens that the network has no embedding of."""
    arrays = [prompt.tokens[0]] if prompt.tokens else []
    if prompt.written:
        arrays += [prompt.written.head, prompt.written.pieces, prompt.written.tail]
    largest = max((int(one.max()) for one in arrays if one.size), default=0)
    if largest >= vocabulary:
        raise ModelError(
            f"{where}: knows {vocabulary} tokens, and the tokenizer makes number {largest}: it is "
            f"another model's"
        )


def _phases(
    policy: Policy,
    made: FlowConfig,
    prompt: Prompt,
    inputs: tuple[str, str],
    pictures: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
) -> list[TorchPhase]:
    given: dict[str, Tensor] = {}
    if not policy.fixed:
        mask = torch.ones(1, prompt.length, dtype=torch.bool)
        mask[:, prompt.length // 2 :] = False
        ids = torch.arange(1, prompt.length + 1)[None] % made.vocabulary
        given = dict(zip(inputs, (ids, mask), strict=True))
    written = policy.words is not None
    masks = {"prompt_mask" if written else inputs[1]: given[inputs[1]]} if given else {}
    caches = {
        name: torch.zeros(1, made.groups, made.prefix, made.head_width)
        for name in cache_names(made.layers)
    }
    padded = {} if isinstance(policy.model, Pi05) else {"padded_state": torch.zeros(1, made.state)}
    noise = torch.randn(1, made.chunk, made.state, generator=torch.Generator().manual_seed(1))
    read = {
        "visual_tokens": torch.zeros(1, made.visual, made.width),
        **(state if policy.reads_state else {}),
        **({} if written else given),
    }
    left = (*caches, "step", *padded, *(masks if written else ()))
    step = {"step": torch.zeros(1, dtype=torch.int64)}
    noisy = {"noise": noise, **step, **padded, **masks, **caches}
    fed = {"denoised": "noise", "next.step": "step"}
    ended = {"denoised": noise, **(state if policy.face.relative else {})}
    return [
        TorchPhase("vision", policy, pictures, ("visual_tokens",), "vision"),
        TorchPhase("prefix", policy, read, left, "prefix"),
        TorchPhase("denoise", policy, noisy, tuple(fed), "denoise", made.steps, fed),
        TorchPhase("finish", policy, ended, ("action",), "finish"),
    ]
