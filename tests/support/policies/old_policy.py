"""A policy as a user has it beside an older PyTorch: it imports torch alone, and no vlacut."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    """Attention over a prefix with a mask, and an MLP, as language models have them."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU("tanh"), nn.Linear(2 * width, width)
        )

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        query, key, value = self.qkv(self.norm(x)).chunk(3, dim=-1)
        shape = (batch, length, self.heads, width // self.heads)
        query, key, value = (each.view(shape).transpose(1, 2) for each in (query, key, value))
        seen = mask[:, None, None, :].expand(-1, -1, length, -1)
        made = functional.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        x = x + self.out(made.transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp(x)


class Policy(nn.Module):
    """Two cameras, a sentence and the state of an LSTM in; an action and that state out."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 8, 8)
        self.embed = nn.Embedding(50, width)
        self.blocks = nn.ModuleList(Block(width, 4) for _ in range(2))
        self.norm = nn.BatchNorm1d(width)
        self.memory = nn.LSTM(width, width, batch_first=True)
        self.head = nn.Linear(width, 7)
        self.register_buffer("places", torch.arange(64) % 7, persistent=False)
        self.register_buffer("scale", torch.linspace(0.5, 1.5, 7))

    def encode(
        self, top: torch.Tensor, wrist: torch.Tensor, tokens: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        with torch.no_grad():
            pictures = [
                self.patches(each / 255.0).flatten(2).transpose(1, 2) for each in (top, wrist)
            ]
        words = self.embed(tokens) + self.places[: tokens.shape[1], None] * 0.1
        x = torch.cat([*pictures, words], dim=1)
        whole = torch.cat([torch.ones_like(mask).repeat(1, 2)[:, :8], mask], dim=1).bool()
        for block in self.blocks:
            x = block(x, whole)
        return self.norm(x.mean(dim=1))

    def act(self, seen: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        drift, _ = torch.max(torch.stack([noise, self.head(seen)]), dim=0)
        return noise - 0.1 * torch.tanh(drift) * self.scale

    def forward(self, batch, h, c, flag=True):
        seen = self.encode(
            batch["observation.images.top"],
            batch["observation.images.wrist"],
            batch["tokens"],
            batch["mask"],
        )
        made, (h, c) = self.memory(seen[:, None], (h, c))
        action = self.head(made[:, 0] if flag else seen)
        return {"action": action * torch.tensor([1.0, 2, 3, 4, 5, 6, 7]), "state": (h, c)}


def policy() -> Policy:
    torch.manual_seed(0)
    return Policy().eval()


def batch() -> dict[str, torch.Tensor]:
    return {
        "observation.images.top": torch.linspace(0, 255, 3 * 256).reshape(1, 3, 16, 16),
        "observation.images.wrist": torch.linspace(255, 0, 3 * 256).reshape(1, 3, 16, 16),
        "tokens": torch.arange(6)[None] * 7,
        "mask": torch.ones(1, 6, dtype=torch.long),
    }


def whole():
    """One module, its arguments nested."""
    return policy(), (batch(), torch.zeros(1, 1, 32)), {"c": torch.zeros(1, 1, 32)}


def phases():
    """Two phases of one module, the second a loop."""
    module, seen = policy(), torch.zeros(1, 32)
    names = ("top", "wrist", "tokens", "mask")
    return {
        "name": "old",
        "phases": [
            {
                "name": "encode",
                "module": module,
                "method": "encode",
                "inputs": dict(zip(names, batch().values(), strict=True)),
                "outputs": ["seen"],
            },
            {
                "name": "act",
                "module": module,
                "method": "act",
                "inputs": {"seen": seen, "noise": torch.linspace(-1, 1, 7)[None]},
                "outputs": ["action"],
                "trips": 4,
                "carried": {"action": "noise"},
            },
        ],
        "outputs": ["action"],
    }


class Wrong(nn.Module):
    def forward(self, x):
        compiling = torch.compiler.is_compiling()
        return torch.tanh(x) if compiling else x


def wrong():
    return Wrong(), (torch.ones(2, 3),)
