"""What a target asks of rounding: how, of what, and by how much the action may move."""

from __future__ import annotations

from dataclasses import replace

from vlacut.compiler.precision_list import (
    QUANTISED,
    ROUNDING_METHODS,
    parse_precisions,
    quantise_options,
)
from vlacut.errors import InputError, suggestion
from vlacut.ir.pipeline import Pass

_ROUNDS = "quantise"
# No price depends on what codes are. What stays exact by measurement is priced in the last cut.
_QUICK = {"method": "rtn", "observations": 1, "error": 0.0}


def quick_rounding(one: Pass) -> Pass:
    """A pass for a price alone: `quantise` rounds to the nearest, by the example."""
    if one.name != _ROUNDS:
        return one
    return replace(one, **_QUICK)  # type: ignore[type-var]  # passes are dataclasses


class RoundingOptions:
    """The options of `Target` that say how weights are rounded, which has them as fields."""

    calibration: str
    embeddings: bool
    exact: tuple[str, ...]
    precisions: str
    quantise: str
    rounding_error: float | None
    rounding_method: str

    def check_rounding(self) -> None:
        """Raise InputError, with the option that is at fault, for what nothing rounds like."""
        if parse_precisions(self.precisions) and self.quantise:
            raise InputError(
                "--precisions are beside the program as it is; leave --quantise out, or list its "
                "type there"
            )
        if self.rounding_error == 0:
            raise InputError(
                "--rounding-error: 0: whatever is rounded moves the action; write more"
            )
        if self.quantise and not quantise_options(self.quantise):
            raise InputError(f"--quantise: {self.quantise}: {suggestion(self.quantise, QUANTISED)}")
        if self.rounding_method not in ("", *ROUNDING_METHODS):
            known = suggestion(self.rounding_method, ROUNDING_METHODS)
            raise InputError(f"--rounding-method: {self.rounding_method}: {known}")
        asked = self.rounding.keys() - {"calibration"}
        if asked and not (self.quantise or self.precisions):
            raise InputError(
                "--rounding-error, --rounding-method, --exact and --round-embeddings are for "
                "--quantise and --precisions"
            )

    @property
    def rounding(self) -> dict[str, str]:
        """The options of `quantise` that say how to round, whatever the precision."""
        error = self.rounding_error
        options = {
            "calibration": self.calibration,
            "method": self.rounding_method,
            "error": "" if error is None else repr(float(error)),
            "exact": ";".join(self.exact),
            "embeddings": "true" if self.embeddings else "",
        }
        return {name: value for name, value in options.items() if value}
