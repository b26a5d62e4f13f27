"""Plan: what runs where, in which order, and what crosses. Plain data, checked when constructed.

A *part* is what one engine runs. A *schedule* is the control step as instructions that both sides
walk: each does what is its own. Tensors go by keys: `name` for the observation and for state,
`phase/name` for everything else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Union

from vlacut.errors import BundleError
from vlacut.hardware import Link, Side
from vlacut.plans.batch import Batch, check_batches
from vlacut.plans.instructions import (
    MOST_TRIPS,
    Instruction,
    Loop,
    Move,
    Run,
    Transfer,
    flatten,
    runs,
    steps,
)
from vlacut.plans.memory import UNKNOWN, Memory
from vlacut.plans.pool import NO_POOL, Pool
from vlacut.plans.state import PlanState, StateUse, state_use
from vlacut.plans.ways import age_s
from vlacut.pricing.coding import EXACT, ActionError, CodedCrossing
from vlacut.pricing.dominance import Standing
from vlacut.pricing.price import Certificate, Price, Strategy
from vlacut.tensor import TensorSpec
from vlacut.tensor.codec import Codec, coded_bytes, takes
from vlacut.tensor.noise import Noise
from vlacut.tensor.premise import Premise

MOST_KEPT = 1024  # observations
CHOSEN = "chosen"  # the name of a plan's first variant


@dataclass(frozen=True, kw_only=True)
class Part:
    """A convex subgraph on one side: what one engine runs.

    Attributes:
        name: unique in the plan, also the file's stem.
        phase: the phase it is of.
        side: the machine it runs on.
        inputs, outputs: keys of the tensors, in the engine's order.
        weights: names of the weights it reads, sorted.
        weight_bytes: of those.
        seconds: predicted time of one execution on its side.
        saves_s: how much longer a control step would take with this part alone on the other side;
            negative where only a constraint keeps it here.
        label: what of the model it is, for people.
        digest: of its operators, see `vlacut.ir.fingerprint`.
        batches: its engines for several robots at once, by how many; the cloud's parts alone have
            any.
    """

    name: str
    phase: str
    side: Side
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: tuple[str, ...]
    weight_bytes: int
    seconds: float
    saves_s: float
    label: str
    digest: str
    batches: tuple[Batch, ...] = ()


@dataclass(frozen=True)
class Variant:
    """One way to place the parts, complete with what it costs.

    Attributes:
        name: unique in the plan.
        schedule: of a control step.
        price: of a control step.
        coded: the crossings that have a codec.
        action_error: what these and the precision do to the action.
        first: what the first step of an episode does before its schedule.
        first_price: of that, on top of the step's; None if there is nothing.
        precision: the one of `--precisions` that its parts are in; empty for the program as it is.
    """

    name: str
    schedule: tuple[Instruction, ...]
    price: Price
    coded: tuple[CodedCrossing, ...] = ()
    action_error: ActionError = EXACT
    first: tuple[Instruction, ...] = ()
    first_price: Union[Price, None] = None
    precision: str = ""

    @cached_property
    def crossing(self) -> Mapping[str, CodedCrossing]:
        """The coded crossings by tensor."""
        return {one.tensor: one for one in self.coded}


@dataclass(frozen=True, repr=False)
class Plan:
    """What both sides of a deployment agree on. An illegal plan cannot be constructed.

    Attributes:
        program: name of the model.
        edge, cloud: names of the devices it was planned for.
        link: the link it was planned for.
        inputs: the observation.
        outputs: the action: keys, in the program's order, with the names users know.
        tensors: spec of every key in a schedule; `TensorSpec.name` is the key.
        parts: every part of every variant.
        variants: the first one is the plan's choice.
        strategies: the rows of the report.
        certificate: how good the best cut found is proven to be.
        standings: the plan's choice against everything on one machine.
        pool: what the variants cost and gain together.
        memory: of the cloud's machine.
        states: what a control step leaves to the next.
        state_copies: whether the edge holds all of it after every step, so that it can go on alone.
        kept_observations: of how many steps the edge keeps observations, to run them again where
            the cloud lost what they left.
        fixed: elements, in C order, of inputs that must have this value in every observation.
        premises: what else must hold of every observation.
        noise: inputs that the edge draws where the observation lacks them.
        warming: how many steps a request's action comes after its observation, where several are in
            flight; so many steps of an episode have no action yet.
        left_out: variants in other precisions that are not offered, and why, a line each.

    Raises BundleError naming the instruction that cannot be carried out.
    """

    program: str
    edge: str
    cloud: str
    link: Link
    inputs: tuple[TensorSpec, ...]
    outputs: Mapping[str, str]
    tensors: tuple[TensorSpec, ...]
    parts: tuple[Part, ...]
    variants: tuple[Variant, ...]
    strategies: tuple[Strategy, ...]
    certificate: Certificate
    standings: tuple[Standing, ...] = ()
    pool: Pool = NO_POOL
    memory: Memory = UNKNOWN
    states: tuple[PlanState, ...] = ()
    state_copies: bool = False
    kept_observations: int = 0
    fixed: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    premises: tuple[Premise, ...] = ()
    noise: tuple[Noise, ...] = ()
    warming: int = 0
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        sizes = {spec.name: math.prod(spec.shape) for spec in self.inputs}
        for name, elements in self.fixed.items():
            if sizes.get(name) != len(elements):
                raise BundleError(f"plan of {self.program}: {name} is fixed to no value of its own")
        for premise in self.premises:
            premise.check(self.inputs)
        if not 0 <= self.warming <= MOST_TRIPS or (self.warming and not self.states):
            raise BundleError(
                f"plan of {self.program}: {self.warming} steps without an action, and "
                f"{len(self.states)} states in which requests are in flight"
            )
        for one in self.noise:
            problem = one.problem() if one.input in sizes else "no such input"
            if problem:
                raise BundleError(f"plan of {self.program}: noise {one.input}: {problem}")
        for what, names in (
            ("noise", [one.input for one in self.noise]),
            ("tensor", [spec.name for spec in self.tensors]),
            ("part", [part.name for part in self.parts]),
            ("variant", [variant.name for variant in self.variants]),
            ("state", [state.key for state in self.states]),
        ):
            if len(set(names)) != len(names):
                raise BundleError(f"plan of {self.program}: two {what}s share a name")
        for part in self.parts:
            check_batches(part.name, part.batches)
        if not self.variants:
            raise BundleError(f"plan of {self.program}: no variant")
        unknown = [state.key for state in self.states if state.key not in self.spec]
        if unknown or not 0 <= self.kept_observations <= MOST_KEPT:
            raise BundleError(
                f"plan of {self.program}: no spec of state {', '.join(unknown)}, or more than "
                f"{MOST_KEPT} observations kept"
            )
        for index, variant in enumerate(self.variants):
            _Rehearsal(self, first=False).walk(variant)
            if self.states:
                _Rehearsal(self, first=True).walk(variant)
                self._check_kept(index)

    def _check_kept(self, index: int) -> None:
        """Every side keeps what it reads of a state in the next step."""
        use = self.state_uses[index]
        for side in Side:
            lost = use.reads[side] - use.keeps[side] - use.first_keeps[side]
            if lost:
                raise BundleError(
                    f"plan of {self.program}, variant {self.variants[index].name}: the {side} does "
                    f"not keep state {', '.join(sorted(lost))}"
                )

    @property
    def age_s(self) -> float:
        """Predicted age of the action in force, on average: see `vlacut.plans.ways.age_s`."""
        return age_s(self.warming, self.variants[0].price.total_s)

    @cached_property
    def spec(self) -> Mapping[str, TensorSpec]:
        """Spec of every tensor, by key."""
        return {spec.name: spec for spec in self.tensors}

    @cached_property
    def part(self) -> Mapping[str, Part]:
        """Part by name."""
        return {part.name: part for part in self.parts}

    @cached_property
    def exact(self) -> Plan:
        """The plan with the variants of the program as it is alone; they come first, so indexes
        stay. Who chooses by time takes no other, for those buy time with error.
        """
        own = tuple(one for one in self.variants if not one.precision)
        return self if len(own) == len(self.variants) else replace(self, variants=own)

    @cached_property
    def one_side(self) -> Side | None:
        """The side that everything runs on, in every variant; None where both are needed."""
        sides = {part.side for one in self.variants for part in self._parts_of(one)}
        return sides.pop() if len(sides) == 1 else None

    def _parts_of(self, variant: Variant) -> tuple[Part, ...]:
        return tuple(part for side in Side for part in self.variant_parts(variant, side))

    def __repr__(self) -> str:
        return (
            f"Plan({self.program} on {self.edge} and {self.cloud} over {self.link}: "
            f"{len(self.parts)} parts, {len(self.variants)} variants)"
        )

    def summary(self) -> str:
        """What runs where, and what a step is predicted to take, a line for each part."""
        chosen = self.variants[0]
        lines = [
            f"{self.program} on {self.edge} and {self.cloud} over {self.link}: "
            f"{chosen.price.total_s * 1e3:.3g} ms per control step"
        ]
        lines += [
            f"  {part.name}: {part.side}, {part.seconds * 1e3:.3g} ms, {part.label}"
            for part in self._parts_of(chosen)
        ]
        if self.one_side is not None:
            lines.append(f"  everything runs on the {self.one_side}")
        if len(self.variants) > 1:
            lines.append(f"  variants: {', '.join(one.name for one in self.variants)}")
        return "\n".join(lines)

    @cached_property
    def cloud_parts(self) -> tuple[tuple[Part, ...], ...]:
        """The cloud's parts by variant, in the order in which frames report their times."""
        return tuple(self.variant_parts(variant, Side.CLOUD) for variant in self.variants)

    @cached_property
    def crosses(self) -> tuple[bool, ...]:
        """Whether anything crosses the link, by variant."""
        flat = (flatten((*one.first, *one.schedule)) for one in self.variants)
        return tuple(any(isinstance(step, Transfer) for step in steps) for steps in flat)

    def sent_bytes(self, variant: Variant, coded: Iterable[tuple[str, Codec]]) -> int:
        """Bytes on the wire of tensors, each with its codec; as expected, where these vary."""
        found = 0
        for key, codec in coded:
            spec = self.spec[key]
            if codec.varies:
                crossing = variant.crossing[key]
                found += math.ceil(crossing.coded_bytes * spec.nbytes / crossing.raw_bytes)
            else:
                found += coded_bytes(codec, spec)
        return found

    @cached_property
    def state_keys(self) -> frozenset[str]:
        """Keys of all state."""
        return frozenset(state.key for state in self.states)

    @cached_property
    def staying_keys(self) -> frozenset[str]:
        """Keys of state that stays as it is until the next reset."""
        return frozenset(state.key for state in self.states if not state.source)

    @cached_property
    def state_uses(self) -> tuple[StateUse, ...]:
        """What every variant does with state."""
        inputs = {part.name: (part.side, part.inputs) for part in self.parts}
        keys, staying = self.state_keys, self.staying_keys
        return tuple(
            state_use(one.schedule, one.first, keys, staying, inputs) for one in self.variants
        )

    @cached_property
    def moves(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """Bytes of state that cross up and down, by the variant before and the one after."""
        every = range(len(self.variants))
        return tuple(tuple(self.move_bytes(one, other) for other in every) for one in every)

    def move_s(self, before: int, after: int, link: Link) -> float:
        """Seconds that a step by one variant takes longer because the one before was by another:
        state goes up with the step, and what comes down has to be asked for.
        """
        up, down = self.moves[before][after]
        return up / link.up + (down / link.down + 2 * link.hop_s if down else 0.0)

    def move_bytes(self, before: int, after: int) -> tuple[int, int]:
        """Bytes of state that cross up and down when a step by one variant follows one by another,
        nothing having been lost.
        """
        if before == after or not self.states:
            return 0, 0
        held, read = self.state_uses[before], self.state_uses[after].reads
        there = {side: held.held_after(side, held.first_keeps[side], False) for side in Side}
        missing = {side: (read[side] - there[side]) & there[side.other] for side in Side}
        up, down = (
            sum(self.spec[key].nbytes for key in missing[side]) for side in (Side.CLOUD, Side.EDGE)
        )
        return up, down

    def variant_parts(self, variant: Variant, side: Side) -> tuple[Part, ...]:
        """The parts a variant runs on a side, in the order of their first run."""
        first = runs(variant.first)
        parts = (self.part[name] for name in {**runs(variant.schedule), **first})
        return tuple(part for part in parts if part.side is side)


class _Rehearsal:
    """Walks a schedule on names alone: who holds which tensor when. In a first step of an episode
    both sides hold what has an initial value; in others, all state that they read.
    """

    def __init__(self, plan: Plan, first: bool) -> None:
        self._plan = plan
        self._first = first
        known = {state.key for state in plan.states if not (first and state.reset)}
        observed = {spec.name for spec in plan.inputs}
        self._held: dict[Side, set[str]] = {Side.EDGE: observed | known, Side.CLOUD: known}
        self._told = False  # whether the cloud has heard of the step

    def walk(self, variant: Variant) -> None:
        where = f"plan of {self._plan.program}, variant {variant.name}"
        schedule = (*variant.first, *variant.schedule) if self._first else variant.schedule
        for item in schedule:
            if isinstance(item, Loop) and not 2 <= item.trips <= MOST_TRIPS:
                raise BundleError(f"{where}: a loop of {item.trips} trips")
        for step in steps(schedule, between=False):
            place = where + (f", trip {step.trip}" if step.trips > 1 else "")
            self._do(step.instruction, place, variant)
        missing = set(self._plan.outputs.values()) - self._held[Side.EDGE]
        if missing:
            raise BundleError(f"{where}: the edge never gets {', '.join(sorted(missing))}")

    def _do(self, step: Run | Transfer | Move, where: str, variant: Variant) -> None:
        if isinstance(step, Run):
            if step.part not in self._plan.part:
                raise BundleError(f"{where}: no part {step.part}")
            part = self._plan.part[step.part]
            if part.side is Side.CLOUD and not self._told:
                raise BundleError(
                    f"{where}: the cloud runs {part.name} before it hears of the step"
                )
            self._need(part.inputs, part.side, f"{where}, part {part.name}")
            self._hold(part.outputs, part.side, where)
        elif isinstance(step, Transfer):
            self._told |= step.source is Side.EDGE
            self._need(step.tensors, step.source, f"{where}, transfer")
            self._hold(step.tensors, step.source.other, where)
            self._check_codecs(step, where, variant)
        else:
            for side in step.sides:
                self._need((step.source,), side, f"{where}, move to {step.target}")
                self._hold((step.target,), side, where)

    def _check_codecs(self, step: Transfer, where: str, variant: Variant) -> None:
        if len(step.codecs) not in (0, len(step.tensors)):
            raise BundleError(f"{where}, transfer: {len(step.codecs)} codecs")
        for key, codec in step.coded:
            if not takes(codec, self._plan.spec[key]):
                raise BundleError(f"{where}: {codec} cannot write {self._plan.spec[key]}")
            crossing = variant.crossing.get(key)
            if codec.varies and (crossing is None or crossing.raw_bytes < 1):
                raise BundleError(f"{where}: nothing is known of {key} as {codec}")

    def _need(self, keys: Iterable[str], side: Side, where: str) -> None:
        missing = [key for key in keys if key not in self._held[side]]
        if missing:
            raise BundleError(f"{where}: the {side} does not hold {', '.join(missing)}")

    def _hold(self, keys: Iterable[str], side: Side, where: str) -> None:
        unknown = [key for key in keys if key not in self._plan.spec]
        if unknown:
            raise BundleError(f"{where}: no spec of {', '.join(unknown)}")
        self._held[side].update(keys)
