"""What the template is given: the figures of bundles, and their pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from vlacut.cli.page import pictures, run_pictures
from vlacut.cli.page.charts import Chart
from vlacut.cli.page.pictures import SHARES, Row, looks, ms
from vlacut.cli.page.strip import Cell, Stop, strip
from vlacut.cli.show.output import rate, size


@dataclass(frozen=True)
class BundleView:
    """A bundle, for the template.

    Attributes:
        name: of its folder.
        data: as `page_json` made it.
    """

    name: str
    data: Mapping[str, Any]

    @cached_property
    def strip(self) -> tuple[list[Cell], list[Stop]]:
        """See `vlacut.cli.page.strip`."""
        return strip(self.data)

    @property
    def link(self) -> str:
        """The link that the plan is for."""
        link = self.data["link"]
        down = "" if link["down_bytes_per_s"] == link["up_bytes_per_s"] else " up"
        more = f", {rate(link['down_bytes_per_s'])} down" if down else ""
        return f"{rate(link['up_bytes_per_s'])}{down}{more}, {link['rtt_s'] * 1e3:g} ms round trip"

    @property
    def facts(self) -> Sequence[tuple[str, str]]:
        """The figures of the chosen cut, as names and texts."""
        chosen, planning = self.data["strategies"][0], self.data["planning"]
        between = planning["interval_ms"] if planning else ()
        predicted = f"{ms(between[0])} to {ms(between[1])} ms" if between else "not recorded"
        return (
            ("A step takes", f"{ms(chosen['latency_ms'])} ms"),
            ("Nine of ten within", predicted),
            ("Up, down", f"{size(chosen['bytes_up'])}, {size(chosen['bytes_down'])}"),
            ("Changes of side", str(chosen["hops"])),
            ("Edge holds", size(chosen["edge"]["weights_bytes"])),
            ("Cloud holds", size(chosen["cloud"]["weights_bytes"])),
        )

    @cached_property
    def strategies(self) -> list[Row]:
        """See `pictures.strategies`."""
        return pictures.strategies(self.data)

    @cached_property
    def memory(self) -> list[Row]:
        """See `pictures.memory`."""
        return pictures.memory(self.data)

    @cached_property
    def positions(self) -> Chart | None:
        """See `pictures.positions`."""
        return pictures.positions(self.data)

    @cached_property
    def bandwidths(self) -> Chart:
        """See `pictures.bandwidths`."""
        return pictures.bandwidths(self.data)

    @cached_property
    def intervals(self) -> list[Row]:
        """See `pictures.intervals`."""
        return pictures.intervals(self.data)

    @property
    def run_times(self) -> Chart:
        """See `run_pictures.times`."""
        return run_pictures.times(self.data["run"])

    @property
    def run_rates(self) -> Chart:
        """See `run_pictures.rates`."""
        return run_pictures.rates(self.data["run"])

    @property
    def run_variants(self) -> list[Row]:
        """See `run_pictures.variants`."""
        return run_pictures.variants(self.data["run"])

    @property
    def shares(self) -> Sequence[tuple[str, str]]:
        """Looks and names of what a step's time goes into."""
        return [(look, name) for _, look, name in SHARES]

    @property
    def lines(self) -> Sequence[tuple[str, str]]:
        """Looks and names of the lines over bandwidths."""
        every = self.data["curves"]["lines"]
        return [(look, one["name"]) for look, one in zip(looks(every), every, strict=True)]

    @property
    def errors(self) -> Sequence[tuple[str, str]]:
        """What the codecs of every variant do to the action."""
        return [(one["name"], _error(one["codecs"])) for one in self.data["pool"]["variants"]]


def _error(codecs: Mapping[str, Any]) -> str:
    if not codecs["crossings"]:
        return "tensors cross as they are: exact"
    kinds = ", ".join(dict.fromkeys(one["codec"] for one in codecs["crossings"]))
    error = codecs["action_error"]
    if error["measured"] is None:
        return f"{kinds}: not measured, {error['why_not']}"
    said = f"{kinds}: {error['measured']:.3g} of the action's magnitude at most, on "
    bound = error["bound"]
    said += f"{error['observations']} observations; {error['allowed']:.3g} is allowed"
    return said if bound is None else f"{said}; bound {bound['error']:.3g} at {bound['coverage']:g}"


def compared(views: Sequence[BundleView]) -> list[tuple[str, list[str]]]:
    """The figures of several bundles, side by side."""
    return [
        (facts[0][0], [text for _, text in facts])
        for facts in zip(*(view.facts for view in views), strict=True)
    ]
