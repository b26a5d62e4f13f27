"""Tensors, plans, plain data: what is illegal cannot be made."""

from __future__ import annotations

import contextlib
import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlacut.bundle.serde import from_json, to_json
from vlacut.errors import BundleError, ObservationError
from vlacut.hardware import Link, Side
from vlacut.plans.instructions import Loop, Move, Run, Transfer, Trips
from vlacut.plans.plan import Part, Plan, Variant
from vlacut.pricing.price import Certificate, Price, Strategy
from vlacut.tensor import TensorSpec

PRICE = Price(
    edge_s=0.1,
    cloud_s=0.2,
    up_s=0.3,
    down_s=0.4,
    hop_s=0.5,
    bytes_up=6,
    bytes_down=7,
    crossings=8,
    hops=9,
    edge_weight_bytes=10,
    cloud_weight_bytes=11,
)


def make_part(name: str, side: Side, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Part:
    return Part(
        name=name,
        phase="p",
        side=side,
        inputs=inputs,
        outputs=outputs,
        weights=(),
        weight_bytes=0,
        seconds=0.0,
        saves_s=0.0,
        label=name,
        digest="",
    )


def looping_plan(**changes: object) -> Plan:
    """Edge encodes, the cloud steps five times on a carried state, the edge gets the last."""
    keys = ("x", "p/z", "p/s", "p/next")
    schedule = (
        Run("encode"),
        Transfer(("p/z",), Side.EDGE),
        Move("p/z", "p/s", (Side.CLOUD,)),
        Loop(
            5,
            (
                Run("step"),
                Transfer(("p/next",), Side.CLOUD, Trips.LAST),
                Move("p/next", "p/s", (Side.CLOUD,), Trips.BEFORE_LAST),
            ),
        ),
    )
    fields: dict[str, object] = {
        "program": "toy",
        "edge": "e",
        "cloud": "c",
        "link": Link(1e6, 2e6, 0.02),
        "inputs": (TensorSpec("x", "float32", (2,)),),
        "outputs": {"action": "p/next"},
        "tensors": tuple(TensorSpec(key, "float32", (2,)) for key in keys),
        "parts": (
            make_part("encode", Side.EDGE, ("x",), ("p/z",)),
            make_part("step", Side.CLOUD, ("p/s",), ("p/next",)),
        ),
        "variants": (Variant("chosen", schedule, PRICE),),
        "strategies": (Strategy("optimal", PRICE, True),),
        "certificate": Certificate("latency", 1.0, 1.0, "min-cut"),
    }
    return Plan(**{**fields, **changes})  # type: ignore[arg-type]


def test_a_plan_survives_json() -> None:
    plan = looping_plan()
    data = json.loads(json.dumps(to_json(plan)))
    assert from_json(Plan, data, "plan") == plan


@pytest.mark.parametrize("drop", range(3))
def test_a_schedule_without_one_of_its_steps_is_refused(drop: int) -> None:
    steps = looping_plan().variants[0].schedule
    broken = Variant("chosen", steps[:drop] + steps[drop + 1 :], PRICE)
    with pytest.raises(BundleError, match="does not hold"):
        looping_plan(variants=(broken,))


def test_the_action_must_reach_the_edge() -> None:
    plan = looping_plan()
    *head, loop = plan.variants[0].schedule
    assert isinstance(loop, Loop)
    silent = Variant("chosen", (*head, Loop(5, (loop.body[0], loop.body[2]))), PRICE)
    with pytest.raises(BundleError, match="the edge never gets p/next"):
        looping_plan(variants=(silent,))


def test_names_in_a_plan_are_unique() -> None:
    plan = looping_plan()
    with pytest.raises(BundleError, match="two parts share a name"):
        looping_plan(parts=plan.parts * 2)


@given(st.data())
def test_hostile_plan_data_is_refused_with_a_place(data: st.DataObject) -> None:
    """Whatever one value of the data becomes, it is refused by name or changes the plan."""
    tree = json.loads(json.dumps(to_json(looping_plan())))
    spots = list(_leaves(tree))
    holder, key = data.draw(st.sampled_from(spots))
    old = holder[key]
    holder[key] = data.draw(st.sampled_from([None, [], {}, "p/nowhere", -1, 2.5, True]))
    if holder[key] == old and type(holder[key]) is type(old):
        return
    with contextlib.suppress(BundleError):  # any other exception fails the test
        assert from_json(Plan, tree, "plan") != looping_plan()


def _leaves(tree: object) -> list[tuple[object, object]]:
    if isinstance(tree, dict):
        items = list(tree.items())
    elif isinstance(tree, list):
        items = list(enumerate(tree))
    else:
        return []
    return [(tree, key) for key, _ in items] + [
        spot for _, value in items for spot in _leaves(value)
    ]


@pytest.mark.parametrize(
    ("dtype", "shape", "nbytes"),
    [("float32", (2, 3), 24), ("bfloat16", (5,), 10), ("int4", (5,), 3), ("bool", (), 1)],
)
def test_bytes_of_a_tensor(dtype: str, shape: tuple[int, ...], nbytes: int) -> None:
    spec = TensorSpec("t", dtype, shape)
    assert spec.nbytes == nbytes
    carried = np.zeros(spec.numpy_shape, spec.numpy_dtype)
    assert carried.nbytes == nbytes
    assert spec.check(carried) is carried


def test_a_wrong_tensor_is_named() -> None:
    spec = TensorSpec("image", "float32", (2, 3))
    with pytest.raises(ObservationError, match=r"image: dtype is float64, must be float32"):
        spec.check(np.zeros((2, 3)))
    with pytest.raises(ObservationError, match=r"image: shape is \[3, 2\], must be \[2, 3\]"):
        spec.check(np.zeros((3, 2), np.float32))
    with pytest.raises(ValueError, match="unknown element type 'object'"):
        dataclasses.replace(spec, dtype="object")
