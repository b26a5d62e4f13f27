"""Target: what a program is cut for, as users write it, and the pipeline that does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vlacut.errors import InputError
from vlacut.hardware import Link, parse_link
from vlacut.hardware.trace import read_trace
from vlacut.pool import SEGMENTS


@dataclass(frozen=True)
class Target:
    """What a program is cut for, as users write it. What is empty is no constraint.

    Attributes:
        edge, cloud: names of devices, or TOML files.
        link: see `vlacut.hardware.link`.
        cloud_budget: most bytes of weights in the cloud, e.g. `12.1GB`; by default what the device
            has, less its reserve.
        cloud_time: most compute in the cloud a control step, e.g. `80ms`.
        edge_memory: the same of the edge.
        pin: operators that have their side, e.g. `vision.*=edge`.
        private: inputs of which no value leaves the edge but through a block, `INPUT[:BLOCK]`.
        minimise: `latency`, `cloud-time` or `energy` of the edge.
        deadline: most time of a control step, e.g. `100ms`.
        link_trace: file or folder of recorded bandwidths, see `vlacut.hardware.trace`. Then the
            uplink has the bandwidth that the trace reaches for `quantile` of the time, and the
            downlink keeps its ratio to it; so latencies are those that `quantile` of the time is
            not exceeded.
        quantile: share of the time, above 0 and at most 1.
        pool: `none`, `block` or `portfolio:BYTES`: see the pass `alternatives`.
        pool_engines: `segments` or `fused`.
        bandwidth: what the pool is chosen for: see `vlacut.hardware.bandwidths`.
        codecs: those that tensors may cross the link with, e.g. `fp16,int8`, or `all`.
        max_action_error: the most that these may move the action, see `vlacut.coding.ActionError`;
            None for no limit.
        precision: `float16` or `bfloat16`: what weights and products are turned into, while what
            needs float32 stays in it and the observation and the action keep their types, see the
            pass `convert-types`; empty: as the model has it.
        quantise: `int8` or `float8e4m3fn`: what products of weights go through, calibrated on the
            example, see the pass `quantise`; empty: nothing.
        costs: files of `vlacut profile`, whose measurements are preferred to the device model.
    """

    edge: str
    cloud: str
    link: str
    cloud_budget: str = ""
    cloud_time: str = ""
    edge_memory: str = ""
    pin: tuple[str, ...] = ()
    private: tuple[str, ...] = ()
    minimise: str = "latency"
    deadline: str = ""
    link_trace: str = ""
    quantile: float = 0.95
    precision: str = ""
    quantise: str = ""
    costs: tuple[str, ...] = ()
    codecs: str = ""
    max_action_error: float | None = None
    pool: str = "none"
    pool_engines: str = SEGMENTS
    bandwidth: str = "0.1MB/s-100MB/s"

    def network(self) -> Link:
        """The link to plan for. Raises HardwareError where link, trace or quantile are at fault."""
        return parse_link(self._link())

    def _link(self) -> str:
        if not self.link_trace:
            return self.link
        if self.link.endswith(".toml"):
            raise InputError("--link-trace takes the place of rates: write --link UP[/DOWN][,RTT]")
        link = parse_link(self.link)
        up = read_trace(Path(self.link_trace)).reached(self.quantile)
        if up == 0:
            raise InputError(
                f"{self.link_trace}: the link is down for more than {1 - self.quantile:.3g} of the "
                f"time, so no cut that crosses it has a latency there; lower --quantile"
            )
        return str(link.at(up))

    def pipeline(self, conversions: Mapping[str, str] | None = None) -> str:
        """Text of the default pipeline for this target, types converted first."""
        passes = ["simplify"]
        for source, target in (conversions or {}).items():
            passes.append(f"convert-types{{source={source} target={target}}}")
        if self.quantise:
            passes.append(f"quantise{{target={self.quantise}}}")
        if self.precision:
            passes.append(f"convert-types{{source=weights target={self.precision} keep=unsafe}}")
        devices = f"edge={self.edge} cloud={self.cloud}"
        passes += [
            "annotate-structure",
            f"annotate-cost{{{devices}}}",
            *(f"measured-cost{{costs={file} {devices}}}" for file in self.costs),
            *([f"annotate-codecs{{{devices} codecs={self.codecs}}}"] if self.codecs else []),
            f"partition{{{' '.join(self._partition())}}}",
        ]
        if self.pool != "none":
            options = f"link={self._link()} pool={self.pool} bandwidth={self.bandwidth}"
            if self._action_error():
                options += f" max-action-error={self._action_error()}"
            passes.append(f"alternatives{{{options} engines={self.pool_engines}}}")
        return ",".join(passes)

    def _action_error(self) -> str:
        return "" if self.max_action_error is None else repr(float(self.max_action_error))

    def _partition(self) -> list[str]:
        options = {
            "cloud-budget": self.cloud_budget,
            "cloud-time": self.cloud_time,
            "edge-memory": self.edge_memory,
            "pins": ";".join(self.pin),
            "private": ";".join(self.private),
            "minimise": self.minimise if self.minimise != "latency" else "",
            "deadline": self.deadline,
            "max-action-error": self._action_error(),
        }
        written = [f"{name}={value}" for name, value in options.items() if value]
        return [f"link={self._link()}", *written]
