"""pi0 and pi05 with what is around them: raw pictures and state in, commands of the robot out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from vlacut.frontends.prompts.tokens import Prompt
from vlacut_models.pi.network import Pi05
from vlacut_models.pi.words import Words
from vlacut_models.pi0 import Pi0


class Face(nn.Module):
    """What a robot gives to the network, and makes of what it says; a kind of checkpoint has one.

    Attributes:
        cameras: names of the pictures, in the network's order; none that is masked.
        vectors: names of the tensors that the state is made of.
        relative: whether commands are relative to the state.
        width: numbers in a command.
        side: of the square that its pictures are scaled into.
    """

    cameras: tuple[str, ...]
    vectors: tuple[str, ...]
    relative: bool
    width: int
    side: int

    def picture(self, name: str, raw: Tensor) -> Tensor:
        """A picture uint8 [H, W, 3] as the tower reads it: [1, 3, side, side] from -1 to 1."""
        raise NotImplementedError

    def state(self, given: Mapping[str, Tensor]) -> Tensor:
        """The normalised state, [1, n]."""
        raise NotImplementedError

    def commands(self, actions: Tensor, given: Mapping[str, Tensor]) -> Tensor:
        """Actions [1, chunk, padded] in the robot's units, [chunk, width]."""
        raise NotImplementedError


class Policy(nn.Module):
    """The network behind its face; a method a phase."""

    tokens: Tensor
    mask: Tensor

    def __init__(self, face: Face, network: Pi0, prompt: Prompt) -> None:
        super().__init__()
        self.face, self.model, self._config = face, network, network.config
        self._new = isinstance(network, Pi05)
        self.words = Words(prompt.written, prompt.length) if prompt.written else None
        self.fixed = prompt.tokens is not None
        for name, array in zip(("tokens", "mask"), prompt.tokens or (), strict=False):
            self.register_buffer(name, torch.from_numpy(array))

    @property
    def reads_state(self) -> bool:
        """Whether the state has a part in the actions, besides being what they are relative to."""
        return not self._new or self.words is not None

    def vision(self, *raw: Tensor) -> Tensor:
        """Pictures uint8 [H, W, 3] to visual tokens [1, visual, width]."""
        pairs = zip(self.face.cameras, raw, strict=True)
        return self.model.vision(torch.cat([self.face.picture(name, one) for name, one in pairs]))

    def prefix(self, visual_tokens: Tensor, *rest: Tensor) -> list[Tensor]:
        """Keys and values of every layer, and the first step's index; then what the steps read: the
        padded state of pi0, the mask of a prompt with the state in it.

        Args:
            visual_tokens: of all cameras.
            rest: the state's tensors where it is read; tokens and mask where they are inputs.
        """
        count = len(self.face.vectors) if self.reads_state else 0
        given = dict(zip(self.face.vectors, rest[:count], strict=False))
        state = self.face.state(given) if self.reads_state else torch.zeros(1, 0)
        tokens, mask = self._prompt(state, rest[count:])
        found = self.model.prefix(visual_tokens, tokens, mask)
        if not self._new:
            found.append(nnf.pad(state, (0, self._config.state - state.shape[1])))
        return [*found, mask] if self.words is not None else found

    def _prompt(self, state: Tensor, given: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        if self.words is not None:
            written: tuple[Tensor, Tensor] = self.words(state)
            return written
        return (self.tokens, self.mask) if self.fixed else (given[0], given[1])

    def denoise(self, noise: Tensor, step: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
        """One Euler step on actions [1, chunk, padded]."""
        state, rest = ((), rest) if self._new else (rest[:1], rest[1:])
        mask, caches = (self.mask, rest) if self.fixed else (rest[0], rest[1:])
        if isinstance(self.model, Pi05):
            return self.model.advance(noise, step, mask, *caches)
        return self.model.denoise(noise, step, *state, mask, *caches)

    def finish(self, actions: Tensor, *vectors: Tensor) -> Tensor:
        """The actions in the robot's units, [chunk, n]."""
        return self.face.commands(actions, dict(zip(self.face.vectors, vectors, strict=False)))
