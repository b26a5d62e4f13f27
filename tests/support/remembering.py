"""Policies that remember: a history of four frames, and an instruction read once an episode."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vlacut.frontends.torch import TorchPhase, program_from_torch
from vlacut.ir.program import Program

FRAMES, WIDTH, HEADS, TOKENS, SIDE = 4, 32, 2, 6, 16


class HistoryPolicy(nn.Module):
    """Attends over features of the last four frames, of which it is given the newest."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, 4, 4)
        self.query = nn.Linear(WIDTH, WIDTH)
        self.head = nn.Sequential(nn.Linear(2 * WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 7))

    def forward(self, image: Tensor, history: Tensor) -> dict[str, Tensor]:
        seen = self.stem(image).relu().mean(dim=(2, 3))
        frames = torch.cat([history[:, 1:], seen[:, None]], dim=1)
        weights = (frames @ self.query(seen)[:, :, None]).softmax(dim=1)
        action = self.head(torch.cat([seen, (weights * frames).sum(dim=1)], dim=-1))
        return {"action": action, "next_history": frames}


class InstructedPolicy(nn.Module):
    """Cross-attends to an instruction, whose keys and values are made once."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(50, WIDTH)
        self.keys, self.values = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.stem = nn.Conv2d(3, WIDTH, 4, 4)
        self.head = nn.Linear(WIDTH, 7)

    def instruct(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        words = self.words(tokens)
        return self.keys(words).tanh(), self.values(words)

    def act(self, image: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        patches = self.stem(image).flatten(2).transpose(1, 2)
        weights = (patches @ keys.transpose(1, 2)).softmax(dim=-1)
        return self.head((patches + weights @ values).mean(dim=1)).tanh()


def with_numbers(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.3)
    return module.eval().requires_grad_(False)


def history_program() -> tuple[HistoryPolicy, Program]:
    policy = HistoryPolicy()
    with_numbers(policy)
    example = {"image": torch.rand(1, 3, SIDE, SIDE), "history": torch.zeros(1, FRAMES, WIDTH)}
    phase = TorchPhase("main", policy, example, ("action", "next_history"))
    state = {"next_history": "history"}
    return policy, program_from_torch("history", [phase], ["image"], ["action"], state=state)


def instructed_program() -> tuple[InstructedPolicy, Program]:
    policy = InstructedPolicy()
    with_numbers(policy)
    tokens = {"tokens": torch.arange(TOKENS)[None]}
    seen = {
        "image": torch.rand(1, 3, SIDE, SIDE),
        "keys": torch.zeros(1, TOKENS, WIDTH),
        "values": torch.zeros(1, TOKENS, WIDTH),
    }
    phases = [
        TorchPhase("instruct", policy, tokens, ("keys", "values"), "instruct", when="reset"),
        TorchPhase("act", policy, seen, ("action",), "act"),
    ]
    return policy, program_from_torch("instructed", phases, ["image", "tokens"], ["action"])
