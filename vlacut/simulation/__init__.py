"""Simulation: the control loop over recorded bandwidths, without waiting for it.

race = Race(bundle.plan, [Recording("office", read_trace(path))], bundle.plan.link)
for row in race.run(["argmin", "thresholds"], ["last", "ewma"]):
    print(row.policy, row.predictor, row.mean_s, row.quantile_s(0.95))
"""

from vlacut.simulation.comparison import CLAIRVOYANT, FRAMES, LINK, Race, Recording, Row
from vlacut.simulation.forecasting import ByForecast
from vlacut.simulation.listening import ByFrames
from vlacut.simulation.loop import Clairvoyant, Fixed, Outcome, network_of, run_loop, walks_of
from vlacut.simulation.walk import Network, Passage, StepWalk

__all__ = [
    "CLAIRVOYANT",
    "FRAMES",
    "LINK",
    "ByForecast",
    "ByFrames",
    "Clairvoyant",
    "Fixed",
    "Network",
    "Outcome",
    "Passage",
    "Race",
    "Recording",
    "Row",
    "StepWalk",
    "network_of",
    "run_loop",
    "walks_of",
]
