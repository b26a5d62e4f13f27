"""Rolling: a robot takes a new version of its bundle between two steps, without missing one.

    with vlacut.Rolling(vlacut.connect("v1.vlacut", "10.0.0.5:7000", tls="robot")) as policy:
        policy.swap("v2.vlacut")             # returns at once
        action = policy.step(observation)    # by v1, until v2 has shown itself

A version is opened beside the one in force, in a thread of its own: its files are checked, its
engines warmed, its cloud is asked, and its golden step is made over the real wire and compared with
its record. Only then does a step take it, one between two others, or the first of an episode where
the policy remembers. For its first steps the old version stays open, and is gone back to if one of
them fails: the old one makes that step, which so may take twice its deadline. No action is ever
made by two versions, and `bundle.digest` says by which one the last was made.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vlacut.api.connecting import Policy
from vlacut.bundle.opened import Bundle
from vlacut.errors import InputError, VerificationError, VlacutError, told
from vlacut.plans.plan import Plan
from vlacut.runtime.edge.report import StepReport
from vlacut.tensor.numerics import largest_difference, magnitude

NONE, PREPARING, READY, TRYING = "none", "preparing", "ready", "trying"
TAKEN, REFUSED, GONE_BACK = "taken", "refused", "gone back"
_log = logging.getLogger("vlacut.edge")


@dataclass(frozen=True)
class Swap:
    """How far the last swap is.

    Attributes:
        state: `none`, `preparing`, `ready` for the next step or episode, `trying` for its first
            steps, `taken`, `refused`, or `gone back`.
        path: of the version; empty if there was none.
        why: it was refused, or gone back from; empty otherwise.
    """

    state: str = NONE
    path: str = ""
    why: str = ""


class Rolling:
    """A policy that can be swapped for another version while it steps.

    Args:
        policy: of `connect`, in force at first; owned from now on.
        trial: for how many steps a new version is tried before the old one is closed.

    Attributes:
        swapped: how far the last swap is.
    """

    def __init__(self, policy: Policy, trial: int = 10) -> None:
        if trial < 1:
            raise InputError(f"a version is tried for {trial} steps; it must be 1 or more")
        self._policy, self._trial = policy, trial
        self._old: Policy | None = None
        self._left = 0  # steps of the trial
        self._next: Policy | None = None
        self._at_border = True  # whether the next step is the first of an episode
        self._lock = threading.Lock()
        self._closed = False
        self.swapped = Swap()

    @property
    def bundle(self) -> Bundle:
        """Of the version in force."""
        return self._policy.bundle

    @property
    def plan(self) -> Plan:
        """Of the version in force."""
        return self._policy.plan

    @property
    def last(self) -> StepReport:
        """Report of the last step; InputError before the first of the version in force."""
        return self._policy.last

    def swap(self, bundle: str | os.PathLike[str]) -> None:
        """Take another version once it has shown itself; `swapped` says how far that is.

        Raises InputError while another swap is under way, or after `close`.
        """
        with self._lock:
            if self._closed:
                raise InputError("the policy is closed: connect again")
            if self.swapped.state in (PREPARING, READY, TRYING):
                raise InputError(
                    f"{self.swapped.path} is {self.swapped.state}: wait for that, then swap again"
                )
            self.swapped = Swap(PREPARING, str(bundle))
        threading.Thread(target=self._prepare, args=(Path(bundle),), daemon=True).start()

    def _prepare(self, path: Path) -> None:
        """Open a version and have it show itself, beside the steps."""
        made: Policy | None = None
        try:
            made = self._policy.beside(path)
            _check_alike(self._policy.plan, made.plan)
            _rehearse(made)
            made.reset()
            made.forget()  # the golden action is none of this robot's
        except Exception as error:  # of a version alone; the one in force goes on
            why = told(error)
            _log.warning("%s is not taken: %s", path, why)
            if made is not None:
                made.close()
            self.swapped = Swap(REFUSED, str(path), why)
            return
        with self._lock:
            closed = self._closed
            if not closed:
                self._next, self.swapped = made, Swap(READY, str(path))
        if closed:
            made.close()

    def reset(self) -> None:
        """Begin an episode."""
        self._at_border = True
        self._policy.reset()

    def step(
        self, observation: Mapping[str, np.ndarray], captured_ns: int | None = None
    ) -> dict[str, np.ndarray]:
        """One control step, by one version; arguments and errors as of `EdgeSession.step`."""
        self._take()
        try:
            action = self._policy.step(observation, captured_ns)
        except InputError:
            raise
        except VlacutError as error:
            if self._old is None:
                raise
            self._go_back(self._old, error)
            return self._policy.step(observation, captured_ns)
        self._at_border = False
        if self._old is not None:
            self._left -= 1
            if not self._left:
                self._settle(self._old)
        return action

    def _take(self) -> None:
        """Put the next version in force, if it is there and may be."""
        if self._next is None or (self._policy.plan.states and not self._at_border):
            return
        with self._lock:
            made, self._next = self._next, None
            self.swapped = Swap(TRYING, self.swapped.path)
        assert made is not None
        self._old, self._policy, self._left = self._policy, made, self._trial
        _log.info("%s is in force", self.swapped.path)

    def _go_back(self, old: Policy, error: VlacutError) -> None:
        _log.warning("back from %s: %s", self.swapped.path, error)
        failed, self._policy, self._old = self._policy, old, None
        if old.plan.states:
            old.reset()  # what it knew is of before the trial
        self.swapped = Swap(GONE_BACK, self.swapped.path, str(error))
        _close_beside(failed)

    def _settle(self, old: Policy) -> None:
        self._old, self.swapped = None, Swap(TAKEN, self.swapped.path)
        _close_beside(old)

    def close(self) -> None:
        """End all of it; calling it again does nothing."""
        with self._lock:
            self._closed = True
            made, self._next = self._next, None
        for policy in (made, self._old, self._policy):
            if policy is not None:
                policy.close()

    def __enter__(self) -> Rolling:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _close_beside(policy: Policy) -> None:
    """Close one in a thread of its own: that may wait for an engine, and a step does not."""
    threading.Thread(target=policy.close, daemon=True).start()


def _check_alike(old: Plan, new: Plan) -> None:
    """Raises InputError where a robot could not use a version in the place of another."""
    inputs = {str(spec) for spec in old.inputs}, {str(spec) for spec in new.inputs}
    made = [
        {(name, plan.spec[key].dtype, plan.spec[key].shape) for name, key in plan.outputs.items()}
        for plan in (old, new)
    ]
    for what, (one, other) in (("inputs", inputs), ("outputs", made)):
        if one != other:
            odd = ", ".join(sorted(map(str, one ^ other)))
            raise InputError(f"its {what} are others than those of the version in force: {odd}")


def _rehearse(policy: Policy) -> None:
    """Make the golden step, both sides together, and compare it with its record.

    Raises VerificationError if it is too far off, BundleError if there is no record.
    """
    plan, bundle = policy.plan, policy.bundle
    observed, golden = (bundle.golden(which) for which in ("observation", "action"))
    action = policy.step(observed)
    if policy.last.reason:
        raise VerificationError(f"its golden step was not made by its plan: {policy.last.reason}")
    variant = next(one for one in plan.variants if one.name == policy.last.variant)
    share = bundle.manifest.tolerance + (variant.action_error.allowed or 0.0)
    off, allowed = largest_difference(action, golden), share * magnitude(golden, finite=True)
    if not off <= allowed:
        raise VerificationError(f"its golden step is off by {off:g}, and {allowed:g} is allowed")
