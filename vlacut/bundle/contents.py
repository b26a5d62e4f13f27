"""What a manifest says, and the rules that it obeys: plain data, whoever wrote the bundle."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vlacut.bundle.layout import INITIAL, part_files
from vlacut.bundle.model_check import ModelCheck
from vlacut.errors import BundleError
from vlacut.hardware import Side
from vlacut.plans.instructions import MOST_TRIPS
from vlacut.plans.plan import Plan
from vlacut.plans.state import PlanState


@dataclass(frozen=True)
class FileEntry:
    """What a file of the bundle must be."""

    sha256: str
    nbytes: int


@dataclass(frozen=True)
class Binding:
    """An input of an uncut phase: its key, the key that binds it at first, and the output carried
    into it (empty if none is).
    """

    key: str
    initial: str
    carried: str


@dataclass(frozen=True)
class WholePhase:
    """An uncut phase, for reference.

    Attributes:
        name: the phase's name.
        trips: how often a control step runs it.
        inputs: in the order of the graph's inputs.
        outputs: keys of the outputs.
        on_reset: whether only the first step of an episode runs it.
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
        format: number of the bundle's format.
        plan: what runs where.
        backends: name of the executor of the parts, by side.
        recipes: what that executor must know, by side.
        tolerance: how far a cut's action may be from the uncut model's, as a share of the largest
            magnitude in it; 0 if the back ends promise the same bits.
        tolerances: how far an engine's outputs may be from those recorded of its part, as such a
            share, by side.
        whole: the uncut phases.
        uncut: the side whose back end and recipe the uncut phases were made for.
        states: what a step of the uncut phases leaves to the next: the plan's states, and those
            that no action depends on.
        pipeline: text of the pipeline that made the plan.
        tools: versions of the tools that made it.
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


def check_manifest(file: Path, manifest: Manifest) -> None:
    """Raises BundleError, naming the manifest's file, if it breaks a rule."""
    _check_names(file, manifest)
    _check_whole(file, manifest)


def _check_names(file: Path, manifest: Manifest) -> None:
    """Names lead nowhere out of the bundle, and files that the manifest names are its own."""
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
    models = [name for part in manifest.plan.parts for name in part_files(part)]
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
    if any(one.given for one in manifest.states) and INITIAL not in manifest.files:
        missing.append(INITIAL)
    if missing:
        raise BundleError(f"{file}: {missing[0]} is in no file of the bundle; compile it again")
