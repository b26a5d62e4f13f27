"""Target: what a program is cut for, as users write it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vlacut.compiler.part_surgery import parse_operation
from vlacut.compiler.rounding_options import RoundingOptions
from vlacut.compiler.way_options import WayOptions
from vlacut.errors import HardwareError, InputError
from vlacut.hardware import (
    Link,
    Side,
    load_device,
    parse_bandwidths,
    parse_bytes,
    parse_link,
    parse_seconds,
)
from vlacut.hardware.trace import read_trace
from vlacut.plans.batch import parse_batches
from vlacut.plans.plan import MOST_KEPT
from vlacut.plans.pool import SEGMENTS
from vlacut.pricing.coding import COVERAGE
from vlacut.tensor.codec import parse_codecs

SIMPLER = 0.01  # as the pass `partition` has it


@dataclass(frozen=True)
class Target(WayOptions, RoundingOptions):
    """What a program is cut for, as users write it. An empty option is no constraint.

    Attributes:
        edge, cloud: names of devices, or TOML files.
        link: see `vlacut.hardware.link`.
        cloud_budget: most bytes of weights in the cloud, e.g. `12.1GB`; by default the device's
            memory less its reserve.
        cloud_time: most compute in the cloud per control step, e.g. `80ms`.
        edge_memory: most bytes of weights on the edge; the default is as for the cloud.
        pin: operators whose side is given, e.g. `vision.*=edge`.
        private: inputs whose values leave the edge only through a block, `INPUT[:BLOCK]`.
        minimise: `latency`, `cloud-time`, `energy` of the edge, or `age` of the action in force,
            for which the planner chooses how the loop runs, as for `in_flight` `auto`; its cut is
            that of the least latency.
        deadline: the longest control step, e.g. `100ms`.
        link_trace: file or folder of recorded bandwidths, see `vlacut.hardware.trace`. Then the
            uplink has the bandwidth that the trace reaches for `quantile` of the time, and the
            downlink keeps its ratio to it. So latencies hold for `quantile` of the time.
        quantile: share of the time, above 0 and at most 1.
        pool: `none`, `block` or `portfolio:BYTES`: see the pass `alternatives`.
        pool_engines: `segments` or `fused`.
        bandwidth: what the pool is chosen for: see `vlacut.hardware.bandwidths`.
        codecs: codecs that tensors may cross the link in, e.g. `fp16,int8`, or `all`.
        max_action_error: the most that codecs may move the action, see
            `vlacut.pricing.coding.ActionError`; None for no limit.
        calibration: file or folder of observations (`vlacut.tensor.observations`), from which a
            bound on the error of codecs on fresh observations is worked out, and by a quarter of
            which, 32 at most, weights and activations are rounded; empty for the error on few
            observations alone, and the example and others like it.
        coverage: share of fresh observations that this bound holds for, above 0 and below 1.
        precision: `float16` or `bfloat16`, for weights and products; empty leaves the model as it
            is. Operators that need float32 stay in it, and the observation and the action keep
            their types, see the pass `convert-types`.
        quantise: `int8` or `float8e4m3fn`: what products of weights go through, calibrated on the
            example; `int4`: what their weights are rounded to; see the pass `quantise`. Or, as the
            literature has them, bits of weights and activations: `w8a8`, `w4a16`, `w4a8`. Empty:
            nothing.
        precisions: more variants, in these: a type that `precision` or `quantise` has, or types by
            phase, `prefill=int8+decode=int4`, or by side; with commas between. See
            `vlacut.compiler.precision_list`.
        rounding_error: the most that rounding, in `quantise` and in each of `precisions`, may move
            the action, as a share of its magnitude: the weights that move it most for their bytes
            stay as they are until it holds; None for no limit.
        rounding_method: how these round weights to 4 bits: `gptq`, or `rtn` (to the nearest), which
            runs nothing, and so takes a model that is too large to run here. Empty: `gptq`.
        exact: weights that stay as they are in any case, by name or pattern.
        embeddings: whether 4 bits are for embeddings, too; ONNX Runtime reads their rows as codes.
        surgery: `FILE.py:FUNCTION` that rewrite phases with onnx-graphsurgeon, in this order, see
            the pass `surgery`; with `edge=` or `cloud=` before it the parts of that side, see
            `vlacut.compiler.part_surgery`.
        real_time_chunking: `guided` or `prefix`: how a denoise loop continues the chunk in force,
            see the pass of that name; empty: not at all.
        draft: where drafts of a token loop come from, which runs in one pass over them, see
            `vlacut.tensor.drafts`: `last`, `velocity`, `kalman:RATIO`, `chunk:SHIFT:WIDTH` or
            `input`; the result stays greedy, see the passes `draft` and `pack`. `auto` for the best
            source of `draft_table`, where drafting pays. Empty: trip by trip.
        draft_table: file of `vlacut calibrate-draft`, by which drafts are priced; without it all
            count as wrong.
        in_flight: how many requests of successive steps overlap, see the pass `in-flight`; 0 for
            one at a time; `auto` for as many as have the least of what is minimised within
            `max_age`, see `vlacut.compiler.ways`.
        batch: how many robots run at once in the cloud, e.g. `1,2,4,8`, see `vlacut.plans.batch`;
            empty for one.
        max_age: the most that the action in force may be old on average, e.g. `300ms`, see
            `Plan.age_s`.
        state_copies: `edge`, so that the edge holds all state after every step, and can go on
            alone; what that moves over the link is priced. Empty: state is where it is read.
        kept_observations: of how many steps the edge keeps observations, to run them again where
            the cloud lost what they left.
        simpler: the share of the optimum that a simpler cut may cost more and is taken; 0 for the
            optimum itself, see the pass `partition`.
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
    precisions: str = ""
    rounding_error: float | None = None
    rounding_method: str = ""
    exact: tuple[str, ...] = ()
    embeddings: bool = False
    surgery: tuple[str, ...] = ()
    real_time_chunking: str = ""
    draft: str = ""
    draft_table: str = ""
    in_flight: int | str = 0
    batch: str = ""
    max_age: str = ""
    simpler: float = SIMPLER
    costs: tuple[str, ...] = ()
    codecs: str = ""
    max_action_error: float | None = None
    calibration: str = ""
    coverage: float = COVERAGE
    pool: str = "none"
    pool_engines: str = SEGMENTS
    bandwidth: str = "0.1MB/s-100MB/s"
    state_copies: str = ""
    kept_observations: int = 4

    def network(self) -> Link:
        """The link to plan for. Raises HardwareError where link, trace or quantile are at fault."""
        return parse_link(self.planned_link())

    def planned_link(self) -> str:
        """Text of that link. Raises as `network` does, and InputError for a link that is down."""
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

    def check(self) -> None:
        """Raise InputError, with the option that is at fault, for what no model could be cut for.

        So that it is said before a model is traced.
        """
        for device in (self.edge, self.cloud):
            load_device(device)
        for each in self.surgery:
            parse_operation(each)
        self.network()
        parse_codecs(self.codecs)
        parse_batches(self.batch)
        if self.pool != "none":
            parse_bandwidths(self.bandwidth)
        if self.state_copies not in ("", Side.EDGE.value):
            raise InputError(f"--state-copies: {self.state_copies!r}: write edge, or leave it out")
        self.check_way()
        if not 0 <= self.kept_observations <= MOST_KEPT:
            raise InputError(f"--keep-observations: write a number from 0 to {MOST_KEPT}")
        for name in ("max_action_error", "rounding_error"):
            share = getattr(self, name)
            if share is not None and not share >= 0:
                raise InputError(
                    f"--{name.replace('_', '-')}: {share:g}: write a share of the action's "
                    f"magnitude: 0.01"
                )
        self.check_rounding()
        if not 0 < self.coverage < 1:
            raise InputError(f"--coverage: {self.coverage:g}: write a share of observations: 0.95")
        if self.calibration and not Path(self.calibration).exists():
            raise InputError(f"--calibration: {self.calibration}: there is no such file or folder")
        if not 0 <= self.simpler < 1:
            raise InputError(
                f"--simpler: {self.simpler:g}: write a share of the optimum that a simpler cut may "
                f"cost more: 0.01"
            )
        for name in ("cloud_budget", "edge_memory"):
            self._read(name, parse_bytes)
        for name in ("cloud_time", "deadline", "max_age"):
            self._read(name, parse_seconds)

    def _read(self, name: str, parse: Callable[[str], float]) -> None:
        text = getattr(self, name)
        try:
            if text:
                parse(text)
        except HardwareError as error:
            raise HardwareError(f"--{name.replace('_', '-')}: {error}") from error
