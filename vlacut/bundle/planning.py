"""What a plan was made of: a file of the bundle for people, which no side needs to run.

`planning.json` has the blocks of the model, what each part holds of them, and what a step would
take if the chain of blocks were cut at one place, wherever that is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from vlacut.bundle.opened import Bundle
from vlacut.bundle.serde import from_json, to_json
from vlacut.errors import BundleError
from vlacut.hardware import Side

PLANNING = "planning.json"


@dataclass(frozen=True, kw_only=True)
class Block:
    """A block of the model, as `annotate-structure` found it, in all phases that have it.

    Attributes:
        stage: `encoder`, `backbone` or `decoder`.
        name: dotted path.
        phases: that have it.
        edge_s, cloud_s: in a control step, on either side, its trips counted.
        weight_bytes: of its distinct weights.
    """

    stage: str
    name: str
    phases: tuple[str, ...]
    edge_s: float
    cloud_s: float
    weight_bytes: int


@dataclass(frozen=True, kw_only=True)
class Position:
    """A cut at one place: the blocks up to it on the edge, those behind it in the cloud.

    Attributes:
        blocks: how many are on the edge, in the order of `Planning.blocks`.
        edge_s, cloud_s, up_s, down_s, hop_s, overlap_s, bytes_up, bytes_down: as in
            `vlacut.pricing.price.Price`, over the plan's link; tensors go as they are.
    """

    blocks: int
    edge_s: float
    cloud_s: float
    up_s: float
    down_s: float
    hop_s: float
    overlap_s: float
    bytes_up: int
    bytes_down: int


@dataclass(frozen=True)
class Held:
    """Operators of a block in a part, by kind."""

    block: str
    operators: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Planning:
    """See the module's docstring.

    Attributes:
        interval_s: bounds between which nine of ten steps should lie, if the link is as stated.
        doubled: bytes of distinct weights that a side holds for variants other than the first, by
            side.
        blocks: the chain of blocks, from the observation to the action.
        positions: cuts of that chain, from all in the cloud to all on the edge. What is pinned
            stays where it is.
        parts: what every part holds, by its name.
    """

    interval_s: tuple[float, ...]
    doubled: Mapping[str, int]
    blocks: tuple[Block, ...]
    positions: tuple[Position, ...]
    parts: Mapping[str, tuple[Held, ...]]


def planning_bytes(planning: Planning) -> bytes:
    """The file."""
    return json.dumps(to_json(planning), sort_keys=True).encode() + b"\n"


def read_planning(bundle: Bundle) -> Planning | None:
    """What a bundle says of its planning; None for one from before there was any.

    Raises BundleError for a file that is altered, or says something else.
    """
    if PLANNING not in bundle.files:
        return None
    where = f"{bundle.root}/{PLANNING}"
    try:
        data = json.loads(bundle.read(PLANNING))
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{where}: is not JSON: {error}; compile it again") from error
    planning = from_json(Planning, data, where)
    if len(planning.interval_s) != 2:
        raise BundleError(f"{where}: an interval has two bounds; compile it again")
    if set(planning.doubled) != {side.value for side in Side}:
        raise BundleError(f"{where}: weights are held by edge and cloud; compile it again")
    if any(not 0 <= one.blocks <= len(planning.blocks) for one in planning.positions):
        raise BundleError(f"{where}: a cut is behind a block that is not there; compile it again")
    return planning
