"""RoboECC's loads against ours: GiB of bfloat16 weights on either side.

    .venv/bin/python tools/paper_loads.py

Source: RoboECC, tables II and III, in GiB with one decimal. Ours are sums over the parameters of
the whole checkpoint, sorted by module path into vision (towers and projector), embedding, the
LLM's layers, its head and the action head, and placed as those figures imply:

- `roboecc`: all layers of the LLM in the cloud, everything else on the edge;
- `fixed`: half of the layers on either side. OpenVLA's 6.3 in the cloud are the second half with
  the LLM's head; CogACT's 6.6 on the edge are the second half with the action head, which is
  DiT-L by its size.

The last column is the error that rounding to one decimal leaves unexplained.
"""

from __future__ import annotations

import re

from rich.console import Console
from rich.table import Table

from vlacut import registry

PRINTED = {  # (model, placement, side): GiB
    ("openvla", "whole", ""): 14.1,
    ("openvla", "roboecc", "cloud"): 12.1,
    ("openvla", "roboecc", "edge"): 2.0,
    ("openvla", "fixed", "cloud"): 6.3,
    ("openvla", "fixed", "edge"): 7.9,
    ("cogact", "whole", ""): 14.5,
    ("cogact", "roboecc", "cloud"): 12.0,
    ("cogact", "roboecc", "edge"): 2.5,
    ("cogact", "fixed", "cloud"): 7.9,
    ("cogact", "fixed", "edge"): 6.6,
}
PRESETS = {"openvla": "full", "cogact": "large"}
ROUNDING = 0.05
LAYER = re.compile(r"(?:language_model|llm)\.model\.layers\.(\d+)\.")


def main() -> None:
    """Print the table."""
    table = Table("model", "placement", "side", box=None)
    for column in ("paper", "ours", "error", "beyond rounding"):
        table.add_column(column, justify="right")
    ours = {model: loads(model) for model in PRESETS}
    for (model, placement, side), printed in PRINTED.items():
        load = ours[model][placement, side]
        error = load / printed - 1
        beyond = max(0.0, abs(load - printed) - ROUNDING) / printed
        figures = (f"{printed:.1f}", f"{load:.2f}", f"{error:+.1%}", f"{beyond:.1%}")
        table.add_row(model, placement, side, *figures)
    Console().print(table)


def loads(model: str) -> dict[tuple[str, str], float]:
    """GiB by placement and side."""
    policy = registry.load("models", model).policy(PRESETS[model])
    held = {name: item.numel() * item.element_size() for name, item in policy.parameters.items()}
    layer = {name: int(found[1]) for name in held if (found := LAYER.search(name))}
    second = {name for name in layer if 2 * layer[name] > max(layer.values())}
    if model == "openvla":
        fixed = second | {name for name in held if ".lm_head." in name}
    else:
        ends = {name for name in held if name.startswith("action_model.")}
        fixed = set(held) - second - ends
    made = {("whole", ""): gib(held, set(held))}
    for placement, cloud in (("roboecc", set(layer)), ("fixed", fixed)):
        made[placement, "cloud"] = gib(held, cloud)
        made[placement, "edge"] = gib(held, set(held) - cloud)
    return made


def gib(held: dict[str, int], names: set[str]) -> float:
    """GiB of some of the weights."""
    return sum(held[name] for name in names) / 2**30


if __name__ == "__main__":
    main()
