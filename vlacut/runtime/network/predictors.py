"""Predictors: the bandwidth of the next sampling interval, from those before it.

    last        the newest sample
    ewma        exponentially weighted mean
    harmonic    harmonic mean of the last five
    holt        level and trend
    ar          autoregression, fitted as it goes by recursive least squares
    lstm        the network that `vlacut train-predictor` fits, from a bundle

Samples and predictions are bytes per second of the wire, headers included, as traces and `--link`
write them. Every predictor also gives quantiles, held to what they say by online conformal
correction (`vlacut.runtime.network.conformal`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from vlacut.errors import InputError
from vlacut.runtime.network.conformal import AroundPoint, Conformal
from vlacut.runtime.network.smoothing import Autoregression, Ewma, Harmonic, Holt, Last


class Predictor(Protocol):
    """The bandwidth of one direction of a link, in bytes per second of the wire."""

    def update(self, bytes_per_s: float) -> None:
        """Take one sample; one for each sampling interval, 0 for an outage.

        Raises InputError if it is negative or no number.
        """

    def predict(self, quantile: float | None = None) -> float:
        """The bandwidth of the next interval; calling it changes nothing.

        Without a quantile, the point forecast. With one, the bandwidth that is reached with
        probability `1 - quantile`; 0 where outages are as likely as that.

        Raises InputError before the first sample, and for a quantile not within 0 and 1.
        """


def _simple(make: Callable[[], Last | Ewma | Harmonic | Holt | Autoregression]) -> Conformal:
    return Conformal(AroundPoint(make()))


PREDICTORS: Mapping[str, Callable[[], Predictor]] = MappingProxyType(
    {
        "last": lambda: _simple(Last),
        "ewma": lambda: _simple(Ewma),
        "harmonic": lambda: _simple(Harmonic),
        "holt": lambda: _simple(Holt),
        "ar": lambda: _simple(Autoregression),
    }
)
LSTM = "lstm"
NAMES = (*PREDICTORS, LSTM)


def make_predictor(name: str, model: Path | None = None) -> Predictor:
    """A predictor that has seen nothing yet.

    Args:
        name: one of `NAMES`.
        model: the file that `vlacut train-predictor` wrote; for `lstm` alone.

    Raises InputError if there is none of that name, or `lstm` has no file; BundleError if the file
    is none.
    """
    if name in PREDICTORS:
        return PREDICTORS[name]()
    if name != LSTM:
        raise InputError(f"there is no predictor {name!r}; there are {', '.join(NAMES)}")
    if model is None:
        raise InputError(
            "lstm needs what vlacut train-predictor wrote; compile with --predictor FILE"
        )
    from vlacut.runtime.network.lstm import read_lstm

    return Conformal(read_lstm(model))
