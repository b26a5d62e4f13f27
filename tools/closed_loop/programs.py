"""The policies as programs that vlacut compiles."""

from __future__ import annotations

import torch

from vlacut.frontends.torch import TorchPhase, program_from_torch
from vlacut.ir.program import Program

from .policy import CHUNK, DIMS, PICTURES, STATE, STEPS, FlowPolicy, TokenPolicy


def _example() -> dict[str, torch.Tensor]:
    numbers = torch.Generator().manual_seed(0)
    made = {
        name: torch.randint(0, 256, (64, 64, 3), generator=numbers, dtype=torch.uint8)
        for name in PICTURES
    }
    made["words"] = torch.tensor([1, 2])
    made["state"] = torch.tensor([0.4, 0.0, 0.3, 0.0, 1.0, 0.4, 0.0, 0.3, 0.0, 0.0])[:STATE]
    return made


def token_program(net: TokenPolicy) -> Program:
    """OpenVLA's shape: a prefill, and sixteen trips of which each decodes an action's tokens."""
    example = _example()
    with torch.inference_mode():
        seen = net.vision(*(example[name] for name in PICTURES))
        keys, values, row, step, chunk = net.prefill(seen, example["words"], example["state"])
    caches = {"keys": keys, "values": values, "row": row, "step": step, "chunk": chunk}
    carried = {f"next_{name}": name for name in caches}
    phases = (
        TorchPhase("vision", net, {name: example[name] for name in PICTURES}, ("seen",), "vision"),
        TorchPhase(
            "prefill",
            net,
            {"seen": seen, "tokens": example["words"], "state": example["state"]},
            tuple(caches),
            "prefill",
        ),
        TorchPhase("decode", net, caches, tuple(carried), "decode", CHUNK, carried),
        TorchPhase(
            "finish", net, {"next_chunk": chunk, "state": example["state"]}, ("actions",), "finish"
        ),
    )
    return program_from_torch(
        "closed-loop-tokens", phases, [*PICTURES, "tokens", "state"], ["actions"]
    )


def flow_program(net: FlowPolicy) -> Program:
    """pi0's shape: a prefix once, and ten trips from noise to a chunk."""
    example = _example()
    noise = torch.randn(CHUNK, DIMS, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        seen = net.vision(*(example[name] for name in PICTURES))
        keys, values, t = net.prefill(seen, example["words"], example["state"])
    carried = {"next_noise": "noise", "next_t": "t"}
    phases = (
        TorchPhase("vision", net, {name: example[name] for name in PICTURES}, ("seen",), "vision"),
        TorchPhase(
            "prefix",
            net,
            {"seen": seen, "tokens": example["words"], "state": example["state"]},
            ("keys", "values", "t"),
            "prefill",
        ),
        TorchPhase(
            "denoise",
            net,
            {"noise": noise, "t": t, "keys": keys, "values": values},
            tuple(carried),
            "denoise",
            STEPS,
            carried,
        ),
        TorchPhase(
            "finish", net, {"next_noise": noise, "state": example["state"]}, ("actions",), "finish"
        ),
    )
    observation = [*PICTURES, "tokens", "state", "noise"]
    return program_from_torch("closed-loop-flow", phases, observation, ["actions"])
