"""Two policies in the shape of VLAs: a vision tower, words, a prefix, and a head that loops.

`TokenPolicy` decodes the tokens of one action per trip, sixteen trips, as OpenVLA decodes those of
one action; `FlowPolicy` turns noise into a chunk in ten steps, as pi0 does. Both have one prefix:
spatial softmax of convolutions (Levine et al. 2016, section 4.2) over three pictures (the front
camera now and `BEFORE` ticks ago, and the wrist's), words and proprioception become tokens of a
transformer, and the head attends to its keys and values.

Both learn commands as changes from one tick to the next, and add them up: the first from the
command in force, so that its chunk is absolute, the second from nothing, relative to that command.
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
WORDS = ("<pad>", "pick", "red", "green", "insert", "peg")
SENTENCES = {"red": ("pick", "red"), "green": ("pick", "green"), "insert": ("insert", "peg")}
PICTURES = ("front", "before", "wrist")
# The most that a command changes in a tick: m, m, m, rad, and the grip, which is a state.
SCALE = (0.018, 0.018, 0.018, 0.12, 1.0)
BINS = 64
STEPS = 10
_MAPS = 24  # of a tower: as many places are found in a picture


@dataclass(frozen=True)
class Config:
    """Sizes of a policy."""

    width: int = 64
    heads: int = 4
    layers: int = 2
    per_picture: int = 8


def words(sentence: str) -> list[int]:
    """The tokens of what a policy is told, two."""
    return [WORDS.index(word) for word in SENTENCES[sentence]]


class Tower(nn.Module):
    """Pictures, `[B, 64, 64, channels]` uint8, as tokens `[B, per_picture, width]`."""

    def __init__(self, config: Config, channels: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, 12, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(12, _MAPS, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(_MAPS, _MAPS, 3, padding=1),
        )
        side = PICTURE // 4
        line = torch.linspace(-1, 1, side)
        places = torch.stack(torch.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)
        self.register_buffer("places", places, persistent=False)
        self.project = nn.Linear(3 * _MAPS, config.per_picture * config.width)
        self.config = config

    def forward(self, picture: Tensor) -> Tensor:
        x = picture.to(torch.float32).permute(0, 3, 1, 2) / 127.5 - 1.0
        maps = self.convolutions(x).flatten(2)
        share = maps.softmax(-1)
        points = share @ self.places
        peak = (share * maps).sum(-1, keepdim=True) / 8
        found = torch.cat([points, peak], -1).flatten(1)
        tokens: Tensor = self.project(found)
        return tokens.reshape(-1, self.config.per_picture, self.config.width)


class Layer(nn.Module):
    """A transformer's layer whose rows attend to keys and values that are handed over, too."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.before, self.between = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)
        self.mlp = nn.Sequential(
            nn.Linear(config.width, 3 * config.width),
            nn.GELU(),
            nn.Linear(3 * config.width, config.width),
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
        self.front, self.wrist = Tower(config, 6), Tower(config, 3)
        self.words = nn.Embedding(len(WORDS), config.width)
        self.state = nn.Sequential(
            nn.Linear(STATE, config.width), nn.ReLU(), nn.Linear(config.width, config.width)
        )
        rows = 2 * config.per_picture + 2 + 1
        self.places = nn.Parameter(0.02 * torch.randn(rows, config.width))
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))

    def see(self, front: Tensor, before: Tensor, wrist: Tensor) -> Tensor:
        """The vision tower: tokens of the three pictures."""
        return torch.cat([self.front(torch.cat([front, before], -1)), self.wrist(wrist)], 1)

    def forward(self, seen: Tensor, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values by layer, `[B, layers, heads, rows, width / heads]` each."""
        x = torch.cat([seen, self.words(tokens), self.state(state)[:, None]], 1) + self.places
        keys, values = [], []
        for layer in self.layers:
            x, k, v = layer(x, None, None, None)
            keys.append(k)
            values.append(v)
        return torch.stack(keys, 1), torch.stack(values, 1)


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
        keys, values = self.prefix(seen, tokens, (state - self.mean) / self.deviation)
        return keys, values

    def add_up(self, changes: Tensor, state: Tensor) -> Tensor:
        """Commands `[16, 5]` from changes and the command in force; the grip is no change."""
        moved = state[5:9] + torch.cumsum(changes[:, :4], 0)
        return torch.cat([moved, changes[:, 4:]], 1)

    def changes_of(self, commands: Tensor, state: Tensor) -> Tensor:
        """`add_up` backwards, in units of `SCALE`, a batch of chunks `[B, 16, 5]`."""
        first = state[:, None, 5:9]
        moved = torch.diff(commands[..., :4], dim=1, prepend=first)
        return torch.cat([moved, commands[..., 4:]], -1) / self.scale


class TokenPolicy(Policy):
    """The tokens of one action per trip: `BINS` bins for every dimension."""

    offsets: Tensor

    def __init__(self, config: Config | None = None) -> None:
        super().__init__(config)
        width = self.config.width
        self.embeddings = nn.Parameter(0.02 * torch.randn(DIMS * BINS + 1, width))
        self.logits = nn.Linear(width, DIMS * BINS)
        self.register_buffer("offsets", torch.arange(DIMS) * BINS, persistent=False)

    def tokens_of(self, commands: Tensor, state: Tensor) -> Tensor:
        """Bins of a batch of chunks, `[B, 16, 5]`."""
        changes = self.changes_of(commands, state)
        low = torch.tensor([-1.0, -1.0, -1.0, -1.0, 0.0])
        share = (changes - low) / (1.0 - low)
        return (share.clamp(0, 1) * (BINS - 1)).round().long()

    def embed(self, tokens: Tensor) -> Tensor:
        """Rows `[..., width]` of the tokens of actions `[..., 5]`."""
        return self.embeddings[tokens + self.offsets].sum(-2)

    def loss(self, batch: dict[str, Tensor], keys: Tensor, values: Tensor) -> Tensor:
        """Cross entropy with the expert's tokens, all trips at once."""
        wanted = self.tokens_of(batch["chunk"], batch["state"])
        start = self.embeddings[-1].expand(len(wanted), 1, -1)
        x = torch.cat([start, self.embed(wanted[:, :-1])], 1) + self.rows
        prefix = keys.shape[3]
        mask = torch.ones(CHUNK, prefix + CHUNK, dtype=torch.bool).tril(prefix)
        for index, layer in enumerate(self.head):
            x, _, _ = layer(x, keys[:, index], values[:, index], mask)
        logits = self.logits(x).reshape(*x.shape[:2], DIMS, BINS)
        near = F.one_hot(wanted, BINS).to(logits.dtype)
        # Neighbouring bins are nearly right.
        soft = 0.8 * near + 0.1 * near.roll(1, -1) + 0.1 * near.roll(-1, -1)
        loss: Tensor = -(soft * logits.log_softmax(-1)).sum(-1).mean()
        return loss

    def prefill(self, seen: Tensor, tokens: Tensor, state: Tensor) -> tuple[Tensor, ...]:
        """Phase: the caches with room for all trips, the first row, where it goes, and no doubt."""
        keys, values = self.known(seen, tokens[None], state[None])
        room = torch.zeros(1, *keys.shape[1:3], CHUNK, keys.shape[4])
        chunk = torch.zeros(CHUNK, DIMS)
        step = torch.zeros(1, dtype=torch.int64)
        keys, values = torch.cat([keys, room], 3), torch.cat([values, room], 3)
        return keys, values, self.embeddings[-1][None], step, chunk, torch.zeros(1)

    def decode(
        self,
        keys: Tensor,
        values: Tensor,
        row: Tensor,
        step: Tensor,
        chunk: Tensor,
        doubts: Tensor,
    ) -> tuple[Tensor, ...]:
        """Phase, sixteen trips: the tokens of one action; caches, row, place, chunk go on, and the
        entropies of the tokens so far.
        """
        prefix = keys.shape[3] - CHUNK
        at = torch.arange(CHUNK) == step
        x = row[:, None] + (self.rows * at[:, None]).sum(0)
        mask = torch.cat([torch.ones(prefix, dtype=torch.bool), torch.arange(CHUNK) < step])
        mask = torch.cat([mask, torch.ones(1, dtype=torch.bool)])[None]
        here = torch.cat([torch.zeros(prefix, dtype=torch.bool), at])[None, None, :, None]
        new_keys, new_values = [], []
        for index, layer in enumerate(self.head):
            mine, yours = keys[:, index], values[:, index]
            x, k, v = layer(x, mine, yours, mask)
            new_keys.append(torch.where(here, k, mine))
            new_values.append(torch.where(here, v, yours))
        logits = self.logits(x).reshape(DIMS, BINS)
        tokens, chances = logits.argmax(-1), logits.log_softmax(-1)
        doubts = doubts - (chances.exp() * chances).sum(-1).mean()
        share = tokens.to(torch.float32) / (BINS - 1)
        low = torch.tensor([-1.0, -1.0, -1.0, -1.0, 0.0])
        action = (low + share * (1.0 - low)) * self.scale
        chunk = torch.where(at[:, None], action, chunk)
        keys, values = torch.stack(new_keys, 1), torch.stack(new_values, 1)
        return keys, values, self.embed(tokens)[None], step + 1, chunk, doubts

    def finish(self, chunk: Tensor, state: Tensor, doubts: Tensor) -> tuple[Tensor, Tensor]:
        """Phase: commands, `[16, 5]`, and the mean entropy of their tokens in nats, `[1]`."""
        return self.add_up(chunk, state), doubts / CHUNK

    def act(self, o: dict[str, Tensor]) -> Tensor:
        """A control step in one piece, as the phases make it."""
        seen = self.vision(*(o[name] for name in PICTURES))
        carried = self.prefill(seen, o["words"], o["state"])
        for _ in range(CHUNK):
            carried = self.decode(*carried)
        return self.finish(carried[4], o["state"], carried[5])[0]


class FlowPolicy(Policy):
    """Noise to a chunk along a learnt velocity, by Euler's method."""

    waves: Tensor

    def __init__(self, config: Config | None = None) -> None:
        super().__init__(config)
        width = self.config.width
        self.into, self.out = nn.Linear(DIMS, width), nn.Linear(width, DIMS)
        self.time = nn.Sequential(nn.Linear(16, width), nn.SiLU(), nn.Linear(width, width))
        self.register_buffer("waves", 2.0 ** torch.arange(8) * torch.pi, persistent=False)

    def velocity(self, x: Tensor, t: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Of noisy chunks `[B, 16, 5]` at times `[B]`."""
        angles = t[:, None] * self.waves
        time = self.time(torch.cat([angles.sin(), angles.cos()], -1))
        h = self.into(x) + self.rows + time[:, None]
        for index, layer in enumerate(self.head):
            h, _, _ = layer(h, keys[:, index], values[:, index], None)
        moved: Tensor = self.out(h)
        return moved

    def loss(self, batch: dict[str, Tensor], keys: Tensor, values: Tensor) -> Tensor:
        """Flow matching (Lipman et al. 2023): the velocity from noise at 0 to the chunk at 1."""
        wanted = self.changes_of(batch["chunk"], batch["state"])
        wanted = torch.cat([wanted[..., :4], 2 * wanted[..., 4:] - 1], -1)
        noise, t = torch.randn_like(wanted), torch.rand(len(wanted))
        x = (1 - t[:, None, None]) * noise + t[:, None, None] * wanted
        return F.mse_loss(self.velocity(x, t, keys, values), wanted - noise)

    def prefill(
        self, seen: Tensor, tokens: Tensor, state: Tensor, noise: Tensor
    ) -> tuple[Tensor, ...]:
        """Phase: keys and values, where denoising begins, and when."""
        keys, values = self.known(seen, tokens[None], state[None])
        return keys, values, self.to_places(noise), torch.zeros(1)

    def denoise(
        self, places: Tensor, t: Tensor, keys: Tensor, values: Tensor
    ) -> tuple[Tensor, ...]:
        """Phase, ten trips: one step of Euler's; the chunk and its time go on.

        The loop carries places relative to the command in force, `[16, 5]`, since that is what the
        robot continues (`vlacut.control.rtc`); the velocity is of changes, and all is linear.
        """
        ahead = torch.diff(places[:, :4], dim=0, prepend=torch.zeros(1, 4))
        changes = torch.cat([ahead / self.scale[:4], places[:, 4:]], 1)
        moved = self.velocity(changes[None], t, keys, values)[0]
        return places + self.to_places(moved) / STEPS, t + 1 / STEPS

    def to_places(self, changes: Tensor) -> Tensor:
        """Places relative to the command in force, from changes in units of `SCALE`."""
        moved = torch.cumsum(changes[:, :4] * self.scale[:4], 0)
        return torch.cat([moved, changes[:, 4:]], 1)

    def act(self, o: dict[str, Tensor]) -> Tensor:
        """Commands `[16, 5]` in one piece, as the phases make them; grips are -1 to 1."""
        seen = self.vision(*(o[name] for name in PICTURES))
        keys, values, places, t = self.prefill(seen, o["words"], o["state"], o["noise"])
        for _ in range(STEPS):
            places, t = self.denoise(places, t, keys, values)
        return torch.cat([places[:, :4] + o["state"][5:9], places[:, 4:]], 1)


POLICIES: dict[str, type[TokenPolicy] | type[FlowPolicy]] = {
    "tokens": TokenPolicy,
    "flow": FlowPolicy,
}
