"""The bundle: the build artifact. Written whole or not at all, and checked before use.

    manifest.json          the plan, the recipe, the digest of every other file
    manifest.json.sha256   the digest of the manifest
    planning.json          blocks of the model, and other cuts of them, for people
    parts/NAME.onnx        one per part; weights are references into the store
    parts/NAME.xN.onnx     of a part, for N robots at once, with the same weights
    whole/PHASE.onnx       the uncut phases, which `verify` compares with
    weights/SHA256         one per distinct weight
    predictors/SHA256      a trained predictor of the bandwidth, if one was given
    actions/SHA256         tables of action errors for the control loop, if they were given
    precisions/SHA256      the table of precisions for the controller dyq, if it was given
    golden/observation.npz, golden/action.npz   one control step of the uncut model
    golden/sequence.npz    of a model that remembers: that step, the next ones, and their state
    initial.npz            initial values of state that are not zeros
    golden/parts/NAME.npz  if engines are built later: the inputs and outputs, by key, of a
                           part's first run in that step

Compiling the same model twice gives the same bytes. Nothing in a bundle is code.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from vlacut.bundle import halves
from vlacut.bundle.contents import FileEntry, Manifest, check_manifest
from vlacut.bundle.halves import files_of, nbytes_of, read_half, require
from vlacut.bundle.serde import from_json, to_json
from vlacut.errors import BundleError, InputError, ObservationError
from vlacut.hardware import Side
from vlacut.plans.plan import Part, Plan
from vlacut.plans.state import initial_state
from vlacut.tensor.npz import UNREADABLE, npz_bytes, read_npz, reason

FORMAT = 13
_MANIFEST = "manifest.json"
_MANIFEST_DIGEST = "manifest.json.sha256"
SIGNATURE = "manifest.json.sig"  # see `vlacut.security.signing`
_MAX_MANIFEST_BYTES = 1 << 28
_CONTROLS = re.compile(r"[\x01-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class GoldenStep:
    """A recorded control step of the uncut model: the observation, the action, and the state that
    it left, by key.
    """

    observation: dict[str, np.ndarray]
    action: dict[str, np.ndarray]
    state: dict[str, np.ndarray]


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

    @staticmethod
    def part_file(part: Part) -> str:
        """The name of a part's file."""
        return halves.part_file(part)

    def part_path(self, part: Part) -> Path:
        """The file of a part."""
        return self.root / self.part_file(part)

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
        names = (name for name in self.manifest.files if name.startswith(f"{halves.PRECISIONS}/"))
        return next((self.root / name for name in names), None)

    @property
    def draft_table_path(self) -> Path | None:
        """The file of the acceptance of drafts; None if the bundle has none."""
        names = (name for name in self.manifest.files if name.startswith(f"{halves.DRAFTS}/"))
        return next((self.root / name for name in names), None)

    @property
    def has_golden(self) -> bool:
        """Whether a step of the uncut model was recorded."""
        return "golden/observation.npz" in self.files

    def golden(self, which: str) -> dict[str, np.ndarray]:
        """The golden `observation` or `action`, of the plan's types and shapes.

        Raises BundleError if the bundle has none, or one that does not fit the plan.
        """
        path = self.root / "golden" / f"{which}.npz"
        if not path.is_file():
            raise BundleError(
                f"{self.root}: no golden {which}: it was compiled with --no-golden, or for a back "
                f"end that computes nothing"
            )
        specs = {spec.name: spec for spec in self.plan.inputs}
        if which == "action":
            specs = {name: self.plan.spec[key] for name, key in self.plan.outputs.items()}
        arrays = self._arrays(f"golden/{which}.npz")
        if set(arrays) != set(specs):
            raise BundleError(f"{path}: holds {sorted(arrays)}, must be {sorted(specs)}")
        try:
            return {name: spec.check(arrays[name]) for name, spec in specs.items()}
        except ObservationError as error:
            raise BundleError(f"{path}: {error}") from error

    def golden_sequence(self) -> tuple[GoldenStep, ...]:
        """The recorded steps of an episode, in order; one step if the model does not remember.

        Raises BundleError as `golden` does.
        """
        first, action = self.golden("observation"), self.golden("action")
        if not self.manifest.states:
            return (GoldenStep(first, action, {}),)
        path = self.root / "golden" / "sequence.npz"
        arrays = self._arrays("golden/sequence.npz")
        count = len({name.partition("/")[0] for name in arrays})
        kinds = {
            "observation": {spec.name: spec for spec in self.plan.inputs},
            "action": {name: self.plan.spec[key] for name, key in self.plan.outputs.items()},
            "state": {state.key: self.plan.spec[state.key] for state in self.manifest.states},
        }
        try:
            return tuple(
                GoldenStep(
                    **{
                        kind: {
                            name: one.check(arrays[f"{step}/{kind}/{name}"])
                            for name, one in specs.items()
                        }
                        for kind, specs in kinds.items()
                    }
                )
                for step in range(count)
            )
        except (KeyError, ObservationError) as error:
            raise BundleError(f"{path}: {error}; compile the bundle again") from error

    def initial_state(self) -> dict[str, np.ndarray]:
        """The uncut model's state in the first step of an episode, by key.

        Raises BundleError if what the bundle holds does not fit the plan.
        """
        path = self.root / "initial.npz"
        given = (
            self._arrays("initial.npz") if any(one.given for one in self.manifest.states) else {}
        )
        try:
            return initial_state(self.manifest.states, self.plan.spec, given)
        except InputError as error:
            raise BundleError(f"{path}: {error}") from error

    def part_golden_path(self, part: Part) -> Path | None:
        """The file of a part's inputs and outputs, to verify its engine; None if not recorded."""
        name = f"golden/parts/{part.name}.npz"
        return self.root / name if name in self.files else None

    def part_golden(self, part: Part) -> dict[str, np.ndarray] | None:
        """Inputs and outputs of a part, by key; None if not recorded."""
        path = self.part_golden_path(part)
        return None if path is None else self._arrays(f"golden/parts/{part.name}.npz")

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


def sequence_bytes(steps: Sequence[GoldenStep]) -> bytes:
    """The file of a recorded sequence, as `Bundle.golden_sequence` reads it."""
    return npz_bytes(
        {
            f"{number}/{kind}/{name}": array
            for number, step in enumerate(steps)
            for kind, arrays in vars(step).items()
            for name, array in arrays.items()
        }
    )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of a folder, with its digest beside it."""
    data = json.dumps(to_json(manifest), indent=1, sort_keys=True).encode() + b"\n"
    (folder / _MANIFEST).write_bytes(data)
    (folder / _MANIFEST_DIGEST).write_text(hashlib.sha256(data).hexdigest() + "\n")


PREDICTORS, ACTIONS = "predictors", "actions"


def add_file(folder: Path, kind: str, file: Path | None) -> str:
    """Copy a file into the folder of its kind, named by its content; returns its path there.

    None gives an empty path.
    """
    if file is None:
        return ""
    name = f"{kind}/{_sha256(file)}"
    (folder / kind).mkdir()
    shutil.copyfile(file, folder / name)
    return name


def list_files(folder: Path) -> dict[str, FileEntry]:
    """Every file below a folder by its path, with `/`. A weight's digest is its name."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _entry(path) for path in paths}


def _entry(path: Path) -> FileEntry:
    sha256 = path.name if path.parent.name == "weights" else _sha256(path)
    return FileEntry(sha256, path.stat().st_size)


def manifest_files(bundle: Bundle) -> dict[str, bytes]:
    """The manifest with its digest, and its signature where there is one, by name.

    Raises BundleError if the manifest changed since the bundle was opened.
    """
    data = (bundle.root / _MANIFEST).read_bytes()
    if hashlib.sha256(data).digest() != bundle.digest:
        raise BundleError(f"{bundle.root}: {_MANIFEST} is altered; copy the bundle again")
    found = {_MANIFEST: data, _MANIFEST_DIGEST: f"{bundle.digest.hex()}\n".encode()}
    signature = bundle.root / SIGNATURE
    return found | ({SIGNATURE: signature.read_bytes()} if signature.is_file() else {})


def open_bundle(path: Path, *, half: bool = False) -> Bundle:
    """Open a bundle and check every file in it.

    Args:
        path: of the bundle.
        half: whether one side's half will do, see `vlacut.bundle.halves`.

    Raises BundleError naming the first file that is missing or altered.
    """
    bundle = read_bundle(path)
    if not half:
        bundle.require(None)
    for problem in check_files(bundle):
        raise BundleError(f"{path}: {problem}; compile it again, or copy it again")
    return bundle


def check_files(bundle: Bundle, without: Container[str] = ()) -> list[str]:
    """One line per file that is missing or altered; files in `without` are not looked at."""
    problems = []
    for name, entry in bundle.files.items():
        if name in without:
            continue
        path = bundle.root / name
        if not path.is_file():
            problems.append(f"{name} is missing")
        elif path.stat().st_size != entry.nbytes or _sha256(path) != entry.sha256:
            problems.append(f"{name} is altered")
    return problems


def read_bundle(path: Path) -> Bundle:
    """A bundle of which only the manifest is checked, for the process that has just written it.

    Everybody else uses `open_bundle`. Raises BundleError.
    """
    file = path / _MANIFEST
    if not file.is_file():
        raise BundleError(f"{path}: is no bundle (no {_MANIFEST}); make one with vlacut compile")
    if file.stat().st_size > _MAX_MANIFEST_BYTES:
        raise BundleError(f"{file}: is larger than any manifest")
    data = file.read_bytes()
    digest = hashlib.sha256(data)
    recorded = path / _MANIFEST_DIGEST
    if not recorded.is_file() or recorded.read_bytes() != f"{digest.hexdigest()}\n".encode():
        raise BundleError(f"{path}: {_MANIFEST} or {_MANIFEST_DIGEST} is altered")
    try:
        parsed = json.loads(data)
        prints = _prints(parsed)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{file}: is not JSON: {error}") from error
    if not isinstance(parsed, dict) or parsed.get("format") != FORMAT:
        raise BundleError(f"{file}: is not of bundle format {FORMAT}; compile it again")
    if not prints:
        raise BundleError(f"{file}: has text that would move a terminal's cursor; do not trust it")
    manifest = from_json(Manifest, parsed, _MANIFEST)
    check_manifest(file, manifest)
    return Bundle(path, manifest, digest.digest(), read_half(path))


def _prints(data: object) -> bool:
    """Whether no text of plain data holds a control character but tabs and ends of lines."""
    if isinstance(data, str):
        return _CONTROLS.search(data) is None
    if isinstance(data, dict):
        return all(_prints(key) and _prints(each) for key, each in data.items())
    return all(map(_prints, data)) if isinstance(data, list) else True


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
