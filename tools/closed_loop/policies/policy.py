"""What policies in the shape of VLAs share: a vision tower, words, and a prefix.

Both policies (`tokens.py`, `flow.py`) have one prefix: spatial softmax of convolutions (Levine et
al. 2016, section 4.2) over three pictures (the front camera now and `BEFORE` ticks ago, and the
wrist's), words and proprioception become tokens of a transformer, and the head attends to its keys
and values. One more token is what the prefix makes of the scene: where the thing that the words
mean is from the tool, its turn and its speed. It learns that from what the simulator knows, so that
what is to be seen in the pictures is learnt from every sample alone, and the head only what to do.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CHUNK, DIMS = 16, 5
PICTURE = 64
BEFORE = 3  # ticks
STATE = 10
TORQUES = 7  # of the joints
WORDS = ("<pad>", "pick", "red", "green", "insert", "peg")
SENTENCES = {"red": ("pick", "red"), "green": ("pick", "green"), "insert": ("insert", "peg")}
PICTURES = ("front", "before", "wrist")
# The most that a command changes in a tick: m, m, m, rad, and the grip, which is a state.
SCALE = (0.018, 0.018, 0.018, 0.12, 1.0)
FACTS = 8  # of the scene, see `expert.facts`
_MAPS = 24  # of a tower: as many places are found in a picture
_SHARP = 4.0  # of the softmax over a map, where training begins


@dataclass(frozen=True)
class Config:
    """Sizes of a policy; `felt` is what the arm says beyond proprioception."""

    width: int = 64
    heads: int = 4
    layers: int = 2
    per_view: int = 2
    felt: int = 0


def words(sentence: str) -> list[int]:
    """The tokens of what a policy is told, two."""
    return [WORDS.index(word) for word in SENTENCES[sentence]]


class Tower(nn.Module):
    """Places of `_MAPS` features in pictures, `[B, 64, 64, 3]` uint8: `[B, _MAPS, 3]`.

    Of each its row and column, -1 to 1, and how sure it is.

    Args:
        kernel: of the last convolution: how far a feature looks around.
    """

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(3, 8, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, _MAPS, kernel, padding=kernel // 2),
        )
        line = torch.linspace(-1, 1, PICTURE // 4)
        places = torch.stack(torch.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)
        self.register_buffer("places", places, persistent=False)

    def forward(self, picture: Tensor) -> Tensor:
        x = picture.to(torch.float32).permute(0, 3, 1, 2) / 127.5 - 1.0
        maps = _SHARP * self.convolutions(x).flatten(2)
        share = maps.softmax(-1)
        peak = (share * maps).sum(-1, keepdim=True) / 16
        return torch.cat([share @ self.places, peak], -1)


class Layer(nn.Module):
    """A transformer's layer whose rows attend to keys and values that are handed over, too."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.before, self.between = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)
        self.mlp = nn.Sequential(
            nn.Linear(config.width, 2 * config.width),
            nn.GELU(),
            nn.Linear(2 * config.width, config.width),
        )

    def heads(self, x: Tensor) -> Tensor:
        """Rows by head: `[B, heads, rows, width / heads]`."""
        width = self.config.width // self.config.heads
        return x.reshape(x.shape[0], -1, self.config.heads, width).transpose(1, 2)

    def forward(
        self, x: Tensor, keys: Tensor | None, values: Tensor | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What comes out, and the keys and values of these rows."""
        q, k, v = (self.heads(part) for part in self.qkv(self.before(x)).chunk(3, -1))
        every = k if keys is None else torch.cat([keys, k], 2)
        all_values = v if values is None else torch.cat([values, v], 2)
        seen = F.scaled_dot_product_attention(q, every, all_values, mask)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        return x + self.mlp(self.between(x)), k, v


class Prefix(nn.Module):
    """Pictures, words and proprioception to the keys and values of every layer."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        width, rows = config.width, 2 * config.per_view
        own = STATE + config.felt
        self.front, self.wrist = Tower(1), Tower(3)
        self.far = nn.Linear(5 * _MAPS, config.per_view * width)
        self.near = nn.Linear(3 * _MAPS, config.per_view * width)
        self.words = nn.Embedding(len(WORDS), width)
        self.state = nn.Sequential(nn.Linear(own, width), nn.ReLU(), nn.Linear(width, width))
        self.guess = nn.Sequential(
            nn.Linear((rows + 2) * width + own, 2 * width), nn.ReLU(), nn.Linear(2 * width, FACTS)
        )
        self.scene = nn.Linear(FACTS, width)
        self.places = nn.Parameter(0.02 * torch.randn(rows + 4, width))
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))

    def see(self, front: Tensor, before: Tensor, wrist: Tensor) -> Tensor:
        """The vision tower: tokens of the three pictures."""
        now, then = self.front(torch.cat([front, before])).chunk(2)
        moved = 10 * (now - then)[..., :2]
        far = self.far(torch.cat([now.flatten(1), moved.flatten(1)], 1))
        both = torch.cat([far, self.near(self.wrist(wrist).flatten(1))], 1)
        return both.reshape(len(both), -1, self.config.width)

    def forward(self, seen: Tensor, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keys and values by layer, `[B, layers, heads, rows, width / heads]` each, and the scene:
        `expert.facts` as far as they are to be seen, `[B, 8]`.
        """
        told = self.words(tokens)
        scene = self.guess(torch.cat([seen.flatten(1), told.flatten(1), state], 1))
        own = torch.stack([self.state(state), self.scene(scene)], 1)
        x = torch.cat([seen, told, own], 1) + self.places
        keys, values = [], []
        for layer in self.layers:
            x, k, v = layer(x, None, None, None)
            keys.append(k)
            values.append(v)
        return torch.stack(keys, 1), torch.stack(values, 1), scene


class Policy(nn.Module):
    """What both policies share."""

    scale: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config or Config()
        self.prefix = Prefix(self.config)
        self.head = nn.ModuleList(Layer(self.config) for _ in range(self.config.layers))
        self.rows = nn.Parameter(0.02 * torch.randn(CHUNK, self.config.width))
        self.register_buffer("scale", torch.tensor(SCALE), persistent=False)
        self.register_buffer("mean", torch.zeros(STATE))
        self.register_buffer("deviation", torch.ones(STATE))

    def vision(self, front: Tensor, before: Tensor, wrist: Tensor) -> Tensor:
        """Phase: three pictures `[64, 64, 3]` uint8 to tokens."""
        return self.prefix.see(front[None], before[None], wrist[None])

    def known(self, seen: Tensor, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of everything that is known."""
        keys, values, _ = self.prefix(seen, tokens, self.normal(state))
        return keys, values

    def normal(self, state: Tensor) -> Tensor:
        """Proprioception in deviations from its mean."""
        return (state - self.mean) / self.deviation

    def given(self, batch: dict[str, Tensor]) -> Tensor:
        """What a batch's arms say of themselves, as the prefix takes it."""
        return self.normal(batch["state"])

    def add_up(self, changes: Tensor, state: Tensor) -> Tensor:
        """Commands `[16, 5]` from changes and the command in force; the grip is no change."""
        moved = state[5:9] + torch.cumsum(changes[:, :4], 0)
        return torch.cat([moved, changes[:, 4:]], 1)

    def changes_of(self, commands: Tensor, state: Tensor) -> Tensor:
        """`add_up` backwards, in units of `SCALE`, a batch of chunks `[B, 16, 5]`."""
        first = state[:, None, 5:9]
        moved = torch.diff(commands[..., :4], dim=1, prepend=first)
        return torch.cat([moved, commands[..., 4:]], -1) / self.scale


def of_labelled(losses: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """The mean of the losses `[B]` of those samples that have a chunk to learn from."""
    has = batch["labelled"]
    return (losses * has).sum() / has.sum().clamp(min=1)
