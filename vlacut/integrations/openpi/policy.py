"""The policy that openpi's clients talk to: observations as they send them in, chunks out.

It has `infer` and `reset`, as openpi's `BasePolicy`, so it also serves in one process:

    with vlacut.connect("policy.vlacut", cloud) as session:
        agent = PolicyAgent(ActionChunkBroker(OpenpiPolicy(session), action_horizon=8))
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from vlacut.control.ways.chunk import ChunkReader, parse_chunk
from vlacut.errors import InputError, VlacutError, suggestion
from vlacut.integrations.fields import Field, Fields
from vlacut.integrations.stepping import Stepped, Stepper
from vlacut.runtime.edge.report import Source
from vlacut.runtime.edge.session import EdgeSession

Provenance = dict[str, float]
_SOURCES = tuple(Source)  # an index of this is `policy_timing`'s `source`


class OpenpiPolicy:
    """A session as openpi's clients have a policy. For one thread at a time.

    Args:
        session: the edge's; closing it is its owner's.
        chunk: the output that is `actions`, as `vlacut.control.ways.chunk` declares it; the only
            one, if empty.
        fields: what the clients' keys are, see `vlacut.integrations.fields`.
        fixed: inputs that no client sends, by name.
        watch: told of every step.
        rate: commands a second that the client plays. With it, a chunk that is given again goes on
            at the command that is due, and ends with its last one again; else it begins anew.

    Attributes:
        fields: that make the observations.
        horizon, width: commands in a chunk, and numbers in a command.

    Raises InputError where a name is of no input or output, or the output is no chunk of commands.
    """

    def __init__(
        self,
        session: EdgeSession,
        chunk: str = "",
        fields: Sequence[Field] = (),
        fixed: Mapping[str, np.ndarray] = MappingProxyType({}),
        rate: float | None = None,
        watch: Callable[[Stepped], None] = lambda _: None,
    ) -> None:
        plan = session.plan
        if not chunk and len(plan.outputs) > 1:
            raise InputError(f"name the output with the commands: {', '.join(plan.outputs)}")
        spec = parse_chunk(chunk or next(iter(plan.outputs)))
        if spec.output not in plan.outputs:
            raise InputError(
                f"the bundle has no output {spec.output!r}; {suggestion(spec.output, plan.outputs)}"
            )
        inputs = {one.name: one for one in plan.inputs}
        output = plan.spec[plan.outputs[spec.output]]
        self._reader = ChunkReader(spec, output, inputs, 1 / rate if rate else 1.0)
        self._dtype = output.numpy_dtype
        self.fields = Fields(plan.inputs, fields, fixed, {one.input for one in plan.noise})
        self.horizon, self.width = self._reader.spec.horizon, self._reader.width
        self._rate, self._steps, self._watch = rate, Stepper(session), watch
        self._commands: np.ndarray | None = None
        self._names = {variant.name: number for number, variant in enumerate(plan.variants)}

    def reset(self) -> None:
        """Begin an episode."""
        self._steps.reset()
        self._commands = None

    def infer(
        self,
        observation: Mapping[str, Any],
        wanted: Callable[[], bool] = lambda: True,
        captured_ns: int | None = None,
    ) -> dict[str, Any]:
        """A chunk for an observation: `actions` [horizon, width], and where it comes from.

        `server_timing` and `policy_timing` hold numbers alone, for clients print every one.

        Args:
            observation: as the client sends it.
            wanted: whether somebody still waits for it, see `Stepper.step`.
            captured_ns: when it was captured, on `time.perf_counter_ns`; now, if not given.

        Raises InputError where the observation is wrong, and what a first step may raise.
        """
        began = time.perf_counter_ns()
        given = self.fields.observation(observation)
        stepped = self._steps.step(given, began if captured_ns is None else captured_ns, wanted)
        failed = stepped.failed
        if self._commands is None or not stepped.stale:
            failed = self._read(stepped, given) or failed
        self._watch(stepped)
        policy = _policy_timing(stepped, self._names)
        policy["failed"] = float(bool(failed))
        spent_ms = (time.perf_counter_ns() - began) * 1e-6
        return {
            "actions": self._played(stepped),
            "server_timing": {"infer_ms": spent_ms, **_server_timing(stepped)},
            "policy_timing": policy,
        }

    def _read(self, stepped: Stepped, observation: Mapping[str, np.ndarray]) -> str:
        """Take the commands of an action; why not, if earlier ones stay in their place."""
        action = stepped.action[self._reader.spec.output]
        try:
            self._commands = self._reader.read(action, observation)
        except InputError as error:  # of the policy's numbers: no client can do better
            if self._commands is None:
                raise VlacutError(str(error)) from error
            return str(error)
        return ""

    def _played(self, stepped: Stepped) -> np.ndarray:
        """The commands from the one that is due."""
        assert self._commands is not None
        rows = due_rows(self.horizon, stepped.since_s, self._rate if stepped.stale else None)
        played: np.ndarray = self._commands[rows].astype(self._dtype)
        return played


def due_rows(horizon: int, since_s: float, rate: float | None) -> np.ndarray:
    """Indices of the commands from the one that is due on, [horizon]; the last one stays.

    Args:
        horizon: of the chunk.
        since_s: seconds since its first command was due.
        rate: commands a second; None for one that begins now.
    """
    passed = round(since_s * rate) if rate else 0
    return np.minimum(np.arange(horizon) + passed, horizon - 1)


def _server_timing(stepped: Stepped) -> Provenance:
    """Where the time of the step went; nothing of one that failed."""
    report = stepped.report
    if report is None:
        return {}
    return {
        "edge_ms": sum(report.edge_s.values()) * 1e3,
        "cloud_ms": sum(report.cloud_s.values()) * 1e3,
        "codec_ms": (report.edge_codec_s + report.cloud_codec_s) * 1e3,
        "network_ms": report.network_s * 1e3,
        "uplink_ms": report.uplink_s * 1e3,
        "downlink_ms": report.downlink_s * 1e3,
        "bytes_up": float(report.bytes_up),
        "bytes_down": float(report.bytes_down),
    }


def _policy_timing(stepped: Stepped, variants: Mapping[str, int]) -> Provenance:
    """What the action is: by which variant, how old, and whether it is one of before again."""
    report = stepped.report
    found = {"age_ms": stepped.age_s * 1e3, "stale": float(stepped.stale)}
    if report is None:
        return found
    return {
        "infer_ms": report.latency_s * 1e3,
        **found,
        "late": float(report.overrun is not None),
        "source": float(_SOURCES.index(report.source)),
        "variant": float(variants[report.variant]),
        "step": float(report.step),
    }
