"""The bundle: the build artifact. Written whole or not at all, and checked before use.

    manifest.json          the plan, the recipe, the digest of every other file
    manifest.json.sha256   the digest of the manifest
    parts/NAME.onnx        one per part; weights are references into the store
    whole/PHASE.onnx       the uncut phases, which `verify` compares with
    weights/SHA256         one a distinct weight
    predictors/SHA256      a trained predictor of the bandwidth, where one was given
    actions/SHA256         tables of action errors for the control loop, where they were given
    golden/observation.npz, golden/action.npz   one control step of the uncut model
    golden/sequence.npz    where it remembers: that step, those after it, and the state they left
    initial.npz            initial values of state that are not zeros
    golden/parts/NAME.npz  where engines are built later: the inputs and outputs, by key, of a
                           part's first run in that step

Compiling the same model twice gives the same bytes. Nothing in a bundle is code.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vlacut.bundle.model_check import ModelCheck
from vlacut.bundle.serde import from_json, to_json
from vlacut.errors import BundleError, InputError, ObservationError
from vlacut.plans.instructions import MOST_TRIPS
from vlacut.plans.plan import Part, Plan
from vlacut.plans.state import PlanState, initial_state
from vlacut.side import Side
from vlacut.tensor.npz import UNREADABLE, npz_bytes, read_npz, reason

FORMAT = 8
_MANIFEST = "manifest.json"
_MANIFEST_DIGEST = "manifest.json.sha256"
_MAX_MANIFEST_BYTES = 1 << 28


@dataclass(frozen=True)
class FileEntry:
    """What a file of the bundle must be."""

    sha256: str
    nbytes: int


@dataclass(frozen=True)
class Binding:
    """An input of an uncut phase: its key, what binds it first, and what is carried into it.

    `carried` is empty where nothing is.
    """

    key: str
    initial: str
    carried: str


@dataclass(frozen=True)
class WholePhase:
    """An uncut phase, for reference.

    Attributes:
        name: of the phase.
        trips: how often a control step runs it.
        inputs: in the order of the graph's inputs.
        outputs: keys of the outputs.
        on_reset: whether the first step of an episode alone runs it.
    """

    name: str
    trips: int
    inputs: tuple[Binding, ...]
    outputs: tuple[str, ...]
    on_reset: bool = False


@dataclass(frozen=True)
class Manifest:
    """What a bundle says of itself.

    Attributes:
        format: of the bundle.
        plan: what runs where.
        backends: name of the executor of the parts, by side.
        recipes: what that executor must know, by side.
        tolerance: how far a cut's action may be from the uncut model's, as a share of the largest
            magnitude in it; 0 where the back ends promise the same bits.
        tolerances: how far an engine may be from what was recorded of its part, likewise, by side.
        whole: the uncut phases.
        uncut: the side for whose back end, and by whose recipe, they were made.
        states: what a step of these leaves to the next; the plan's, and what no action hangs on.
        pipeline: text of the pipeline that made the plan.
        tools: versions of what made it.
        predictor: the file of a trained predictor of the bandwidth; empty if there is none.
        actions: the file of tables of action errors; empty if there are none.
        model_check: how far the uncut phases were from the model that they came from.
        files: every other file of the bundle.
    """

    format: int
    plan: Plan
    backends: Mapping[str, str]
    recipes: Mapping[str, Mapping[str, str]]
    tolerance: float
    tolerances: Mapping[str, float]
    whole: tuple[WholePhase, ...]
    uncut: Side
    states: tuple[PlanState, ...]
    pipeline: str
    tools: Mapping[str, str]
    predictor: str
    actions: str
    model_check: ModelCheck
    files: Mapping[str, FileEntry]

    @property
    def backend(self) -> str:
        """The back ends as users write them: one name, or `edge=NAME,cloud=NAME`."""
        edge, cloud = (self.backends[side.value] for side in Side)
        return edge if edge == cloud else f"edge={edge},cloud={cloud}"


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
    """An open, checked bundle."""

    root: Path
    manifest: Manifest
    digest: bytes

    def __repr__(self) -> str:
        plan = self.plan
        return (
            f"Bundle({str(self.root)!r}: {plan.program}, {len(plan.parts)} parts, "
            f"{len(plan.variants)} variants, {self.manifest.backend})"
        )

    def summary(self) -> str:
        """What runs where, how it compares with its model, and what it takes, in a few lines."""
        nbytes = sum(entry.nbytes for entry in self.manifest.files.values())
        return (
            f"{self.plan.summary()}\n{self.manifest.model_check}\n"
            f"{self.root}: {nbytes / 1e6:.3g} MB, digest {self.digest.hex()[:12]}"
        )

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
        """How far an engine of a side may be from what was recorded of its part."""
        return self.manifest.tolerances[side.value]

    @staticmethod
    def part_file(part: Part) -> str:
        """The name of a part's file."""
        return f"parts/{part.name}.onnx"

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
    def has_golden(self) -> bool:
        """Whether a step of the uncut model was recorded."""
        return "golden/observation.npz" in self.manifest.files

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
        """The recorded steps of an episode, one after the other; a single one where the model does
        not remember.

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
        """State in the first step of an episode, by key, of the uncut model.

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
        """The file of a part's inputs and outputs, to verify its engine with; None without."""
        name = f"golden/parts/{part.name}.npz"
        return self.root / name if name in self.manifest.files else None

    def part_golden(self, part: Part) -> dict[str, np.ndarray] | None:
        """Inputs and outputs of a part, by key; None if not recorded."""
        path = self.part_golden_path(part)
        return None if path is None else self._arrays(f"golden/parts/{part.name}.npz")

    def read(self, name: str) -> bytes:
        """A small file of it, as it was compiled; BundleError if it is missing or altered."""
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
    """Copy a file into a bundle's folder, among those of its kind and by its content; its path
    there, empty of None.
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


def open_bundle(path: Path) -> Bundle:
    """Open a bundle and check every file in it.

    Raises BundleError naming the first file that is missing or altered.
    """
    bundle = read_bundle(path)
    for problem in check_files(bundle):
        raise BundleError(f"{path}: {problem}; compile it again, or copy it again")
    return bundle


def check_files(bundle: Bundle, without: Container[str] = ()) -> list[str]:
    """One line for every file that is missing or altered, but for those `without`."""
    problems = []
    for name, entry in bundle.manifest.files.items():
        if name in without:
            continue
        path = bundle.root / name
        if not path.is_file():
            problems.append(f"{name} is missing")
        elif path.stat().st_size != entry.nbytes or _sha256(path) != entry.sha256:
            problems.append(f"{name} is altered")
    return problems


def read_bundle(path: Path) -> Bundle:
    """A bundle by its manifest alone, for who has just written it; others use `open_bundle`."""
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
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{file}: is not JSON: {error}") from error
    if not isinstance(parsed, dict) or parsed.get("format") != FORMAT:
        raise BundleError(f"{file}: is not of bundle format {FORMAT}; compile it again")
    manifest = from_json(Manifest, parsed, _MANIFEST)
    _check_names(file, manifest)
    _check_whole(file, manifest)
    return Bundle(path, manifest, digest.digest())


def _check_names(file: Path, manifest: Manifest) -> None:
    """No name in the manifest may lead out of the bundle."""
    if manifest.predictor and manifest.predictor not in manifest.files:
        raise BundleError(f"{file}: its predictor {manifest.predictor!r} is none of its files")
    if manifest.actions and manifest.actions not in manifest.files:
        raise BundleError(f"{file}: its actions {manifest.actions!r} are none of its files")
    for name in ("recipes", "backends", "tolerances"):
        if set(getattr(manifest, name)) != {side.value for side in Side}:
            raise BundleError(f"{file}: {name} must be of edge and cloud")
    names = [*manifest.files, *(part.name for part in manifest.plan.parts)]
    for name in [*names, *(phase.name for phase in manifest.whole)]:
        if name.startswith("/") or ".." in name.split("/") or "\\" in name or "\0" in name:
            raise BundleError(f"{file}: name {name!r} leads out of the bundle")


def _check_whole(file: Path, manifest: Manifest) -> None:
    """The parts and the uncut phases have files, and these phases make the action."""
    for tolerance in (manifest.tolerance, *manifest.tolerances.values()):
        if not 0 <= tolerance < math.inf:
            raise BundleError(f"{file}: tolerance {tolerance} must be finite, and at least 0")
    models = [f"parts/{part.name}.onnx" for part in manifest.plan.parts]
    models += [f"whole/{phase.name}.onnx" for phase in manifest.whole]
    plan = manifest.plan
    known = {state.key: state for state in manifest.states}
    unlike = any(known.get(state.key) != state for state in plan.states)
    if unlike or known.keys() - plan.spec.keys():
        raise BundleError(f"{file}: its uncut phases have other state than its plan")
    held = {spec.name for spec in plan.inputs} | known.keys()
    for phase in manifest.whole:
        made = {binding.key for binding in phase.inputs} | set(phase.outputs)
        read = {binding.initial for binding in phase.inputs} - held
        read |= {binding.carried for binding in phase.inputs if binding.carried} - made
        if read or not 1 <= phase.trips <= MOST_TRIPS:
            raise BundleError(f"{file}: uncut phase {phase.name} cannot run: {sorted(read)}")
        held |= made
    missing = [name for name in models if name not in manifest.files]
    missing += sorted(set(manifest.plan.outputs.values()) - held)
    used = {one.source for one in manifest.states} | {one.reset for one in manifest.states}
    missing += sorted(used - held - {""})
    if any(one.given for one in manifest.states) and "initial.npz" not in manifest.files:
        missing.append("initial.npz")
    if missing:
        raise BundleError(f"{file}: {missing[0]} is in no file of the bundle; compile it again")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
