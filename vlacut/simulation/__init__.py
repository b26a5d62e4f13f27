"""Simulation: the control loop over recorded bandwidths, without waiting for it.

race = Comparison(bundle.plan, [Recording("office", read_trace(path))], bundle.plan.link)
for row in race.run(["argmin", "thresholds"], ["last", "ewma"]):
    print(row.selector, row.predictor, row.mean_s, row.quantile_s(0.95))

May import: control, runtime and what lies below. Public: those of `__all__`.
"""

from vlacut.simulation.comparison import CLAIRVOYANT, FRAMES, LINK, Comparison, Recording, Row
from vlacut.simulation.forecasting import ByForecast
from vlacut.simulation.listening import ByFrames
from vlacut.simulation.loop import Clairvoyant, Fixed, Outcome, network_of, run_loop, walks_of
from vlacut.simulation.walk import Passage, SimulatedLink, StepWalk

__all__ = [
    "CLAIRVOYANT",
    "FRAMES",
    "LINK",
    "ByForecast",
    "ByFrames",
    "Clairvoyant",
    "Comparison",
    "Fixed",
    "Outcome",
    "Passage",
    "Recording",
    "Row",
    "SimulatedLink",
    "StepWalk",
    "network_of",
    "run_loop",
    "walks_of",
]
