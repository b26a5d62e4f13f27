"""An open bundle: what it holds, and where its files are."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from vlacut.bundle.contents import FileEntry, Manifest
from vlacut.bundle.golden import GoldenStep, Specs, read_sequence, read_step
from vlacut.bundle.halves import files_of, nbytes_of, require
from vlacut.bundle.layout import (
    ACTION,
    DRAFTS,
    INITIAL,
    OBSERVATION,
    PRECISIONS,
    SEQUENCE,
    part_file,
    part_golden_file,
)
from vlacut.errors import BundleError, InputError
from vlacut.hardware import Side
from vlacut.plans.plan import Part, Plan
from vlacut.plans.state import initial_state
from vlacut.tensor.npz import UNREADABLE, read_npz, reason


@dataclass(frozen=True, repr=False)
class Bundle:
    """An open, checked bundle, or a half of one.

    Attributes:
        root: its folder.
        manifest: of the whole bundle.
        digest: of the manifest.
        half: whose half it is; None if it is whole.
    """

    root: Path
    manifest: Manifest
    digest: bytes
    half: Side | None = None

    def __repr__(self) -> str:
        plan = self.plan
        return (
            f"Bundle({str(self.root)!r}: {plan.program}, {len(plan.parts)} parts, "
            f"{len(plan.variants)} variants, {self.manifest.backend})"
        )

    def summary(self) -> str:
        """What runs where, how it compares with its model, and what it takes, in a few lines."""
        what = f"the {self.half.value}'s half, " if self.half else ""
        return (
            f"{self.plan.summary()}\n{self.manifest.model_check}\n"
            f"{self.root}: {what}{nbytes_of(self.files) / 1e6:.3g} MB, digest "
            f"{self.digest.hex()[:12]}"
        )

    @cached_property
    def files(self) -> Mapping[str, FileEntry]:
        """What it must hold beside its manifest, by name: of a half only that side's files."""
        return (
            self.manifest.files
            if self.half is None
            else files_of(self.root, self.manifest, self.half)
        )

    def require(self, side: Side | None) -> None:
        """Raises BundleError if this is a half, and not that side's; None needs both."""
        require(self.root, self.half, side)

    @property
    def plan(self) -> Plan:
        """What runs where."""
        return self.manifest.plan

    def recipe(self, side: Side) -> Mapping[str, str]:
        """What the executor of a side must know."""
        return self.manifest.recipes[side.value]

    def backend(self, side: Side) -> str:
        """The name of the executor of a side."""
        return self.manifest.backends[side.value]

    def tolerance(self, side: Side) -> float:
        """How far the outputs of a side's engine may be from those recorded of its part."""
        return self.manifest.tolerances[side.value]

    def part_path(self, part: Part) -> Path:
        """The file of a part."""
        return self.root / part_file(part)

    @property
    def predictor_path(self) -> Path | None:
        """The file of the trained predictor; None if the bundle has none."""
        return self.root / self.manifest.predictor if self.manifest.predictor else None

    @property
    def actions_path(self) -> Path | None:
        """The file of the tables of action errors; None if the bundle has none."""
        return self.root / self.manifest.actions if self.manifest.actions else None

    @property
    def precision_table_path(self) -> Path | None:
        """The file of the table of precisions; None if the bundle has none."""
        return self._first(PRECISIONS)

    @property
    def draft_table_path(self) -> Path | None:
        """The file of the acceptance of drafts; None if the bundle has none."""
        return self._first(DRAFTS)

    def _first(self, folder: str) -> Path | None:
        names = (name for name in self.manifest.files if name.startswith(f"{folder}/"))
        return next((self.root / name for name in names), None)

    @property
    def has_golden(self) -> bool:
        """Whether a step of the uncut model was recorded."""
        return OBSERVATION in self.files

    def golden(self, which: str) -> dict[str, np.ndarray]:
        """The golden `observation` or `action`, of the plan's types and shapes.

        Raises BundleError if the bundle has none, or one that does not fit the plan.
        """
        name = {"observation": OBSERVATION, "action": ACTION}[which]
        path = self.root / name
        if not path.is_file():
            raise BundleError(
                f"{self.root}: no golden {which}: it was compiled with --no-golden, or for a back "
                f"end that computes nothing"
            )
        return read_step(path, self._arrays(name), self._golden_specs()[which])

    def golden_sequence(self) -> tuple[GoldenStep, ...]:
        """The recorded steps of an episode, in order; one step if the model does not remember.

        Raises BundleError as `golden` does.
        """
        first, action = self.golden("observation"), self.golden("action")
        if not self.manifest.states:
            return (GoldenStep(first, action, {}),)
        return read_sequence(self.root / SEQUENCE, self._arrays(SEQUENCE), self._golden_specs())

    def _golden_specs(self) -> dict[str, Specs]:
        """What a recorded step holds, by field of `GoldenStep`."""
        return {
            "observation": {spec.name: spec for spec in self.plan.inputs},
            "action": {name: self.plan.spec[key] for name, key in self.plan.outputs.items()},
            "state": {state.key: self.plan.spec[state.key] for state in self.manifest.states},
        }

    def initial_state(self) -> dict[str, np.ndarray]:
        """The uncut model's state in the first step of an episode, by key.

        Raises BundleError if what the bundle holds does not fit the plan.
        """
        given = self._arrays(INITIAL) if any(one.given for one in self.manifest.states) else {}
        try:
            return initial_state(self.manifest.states, self.plan.spec, given)
        except InputError as error:
            raise BundleError(f"{self.root / INITIAL}: {error}") from error

    def part_golden_path(self, part: Part) -> Path | None:
        """The file of a part's inputs and outputs, to verify its engine; None if not recorded."""
        name = part_golden_file(part)
        return self.root / name if name in self.files else None

    def part_golden(self, part: Part) -> dict[str, np.ndarray] | None:
        """Inputs and outputs of a part, by key; None if not recorded."""
        path = self.part_golden_path(part)
        return None if path is None else self._arrays(part_golden_file(part))

    def read(self, name: str) -> bytes:
        """The bytes of a small file, as compiled; BundleError if it is missing or altered."""
        entry, path = self.manifest.files.get(name), self.root / name
        if entry is None:
            raise BundleError(f"{self.root}: {name} is none of its files; compile it again")
        try:
            data = path.read_bytes() if path.stat().st_size == entry.nbytes else b""
        except OSError as error:
            raise BundleError(f"{path}: cannot be read: {error.strerror}") from error
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise BundleError(f"{self.root}: {name} is altered; compile it again, or copy it again")
        return data

    def _arrays(self, name: str) -> dict[str, np.ndarray]:
        try:
            return read_npz(self.read(name))
        except UNREADABLE as error:
            raise BundleError(
                f"{self.root / name}: cannot be read: {reason(error)}; compile the bundle again"
            ) from error

    def parts(self, side: Side) -> tuple[Part, ...]:
        """The parts that a side holds."""
        return tuple(part for part in self.plan.parts if part.side is side)
