"""What clients call and send, as inputs of a bundle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlacut.errors import InputError, ObservationError
from vlacut.integrations.fields import Field, Fields, parse_field
from vlacut.tensor import TensorSpec

INPUTS = (
    TensorSpec("wrist_image", "float32", (1, 3, 4, 6)),
    TensorSpec("raw", "uint8", (1, 4, 6, 3)),
    TensorSpec("state", "float32", (1, 8)),
    TensorSpec("tokens", "int32", (1, 5)),
    TensorSpec("scale", "float32", (1,)),
    TensorSpec("half", "bfloat16", (2,)),
)
PICTURE = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)
REST: dict[str, np.ndarray] = {
    spec.name: np.zeros(spec.numpy_shape, spec.numpy_dtype) for spec in INPUTS
}


def made(*fields: str, **sent: Any) -> dict[str, np.ndarray]:
    """What becomes of what is sent; other inputs are fixed."""
    named = {each.input for each in map(parse_field, fields)} | sent.keys()
    fixed = {name: array for name, array in REST.items() if name not in named}
    found = Fields(INPUTS, list(map(parse_field, fields)), fixed).observation(sent)
    for spec in INPUTS:
        spec.check(found[spec.name])
    return found


def test_a_picture_in_bytes_is_turned_and_scaled() -> None:
    found = made("cam=wrist_image:-1..1", cam=PICTURE)["wrist_image"]
    expected = np.moveaxis(PICTURE, -1, 0)[np.newaxis] / 127.5 - 1
    np.testing.assert_allclose(found, expected, atol=1e-6)
    unit = made("cam=wrist_image:0..1", cam=np.full((1, 3, 4, 6), 255, np.uint8))["wrist_image"]
    assert (unit == 1).all()


def test_a_picture_that_fits_is_left_alone() -> None:
    assert np.shares_memory(made(raw=PICTURE)["raw"], PICTURE)
    turned = made(raw=np.ascontiguousarray(np.moveaxis(PICTURE, -1, 0)))["raw"]
    np.testing.assert_array_equal(turned[0], PICTURE)


def test_nested_keys_and_parts_of_a_state_are_joined_in_the_order_of_the_fields() -> None:
    fields = ("observation/joints=state", "observation/gripper=state")
    sent = {"observation": {"gripper": 9.0, "joints": np.arange(7.0)}}
    found = made(*fields, **sent)["state"]
    np.testing.assert_array_equal(found, [[0, 1, 2, 3, 4, 5, 6, 9]])
    assert found.dtype == np.float32


def test_lists_and_numbers_of_python() -> None:
    np.testing.assert_array_equal(made(tokens=[1, 2, 3, 4, 5])["tokens"], [[1, 2, 3, 4, 5]])
    assert made(scale=3)["scale"] == [3]
    assert made(scale=np.float64(0.5))["scale"] == [0.5]


def test_a_key_that_is_not_needed_is_left_out() -> None:
    assert set(made("prompt=", prompt="pick up the fork")) == REST.keys()


def test_what_may_be_drawn_may_be_missing() -> None:
    noise = TensorSpec("noise", "float32", (2,))
    assert Fields([noise], drawn={"noise"}).observation({}) == {}


@pytest.mark.parametrize(
    ("fields", "sent", "said"),
    [
        ((), {"wrist_imag": PICTURE}, "no input 'wrist_imag'; did you mean wrist_image?"),
        (
            (),
            {"observation/images/wrist_image_left": PICTURE},
            "did you mean wrist_image? (--map observation/images/wrist_image_left=INPUT says",
        ),
        ((), {"prompt": "pick"}, "no input 'prompt'; known: "),
        (("prompt=tokens",), {"prompt": "pick"}, "prompt: is text, and the bundle takes tensors"),
        (("o=tokens",), {"o": [object()]}, "o: is no numbers"),
        (("o=tokens",), {"o": [[1], [1, 2]]}, "o: its lists are not of one length"),
        ((), {"wrist_image": PICTURE}, "--map wrist_image=wrist_image:-1..1"),
        (("cam=raw", "state=state"), {"came": PICTURE}, "no input 'came'; did you mean cam"),
        ((), {"state": np.zeros(7)}, "state: shape is [7]; input state takes [1, 8] of float32"),
        ((), {"raw": np.zeros((8, 9, 3), np.uint8)}, "it is not resized here: do that where it is"),
        ((), {"raw": np.zeros((6, 4, 3), np.uint8)}, "raw: shape is [6, 4, 3]"),
        ((), {"raw": np.zeros((4, 6, 3))}, "raw: dtype is float64"),
        ((), {"raw": np.full((4, 6, 3), 256)}, "raw: holds numbers beyond uint8"),
        ((), {"tokens": np.full(5, 2**40)}, "tokens: holds numbers beyond int32"),
        ((), {"state": np.ones(8, bool)}, "state: dtype is bool"),
        ((), {"half": np.zeros(2)}, "half: dtype is float64"),
        (("a=state", "b=state"), {"a": np.zeros(7), "b": np.zeros((1, 1))}, "state: cannot join"),
        ((), {"state": {"a": {1: 2}}}, "key 1 of the observation is no text"),
        (("a=state",), {}, "missing from the observation: wrist_image: float32[1, 3, 4, 6], raw"),
    ],
)
def test_what_does_not_fit_says_what_and_what_to_do(
    fields: tuple[str, ...], sent: dict[str, Any], said: str
) -> None:
    with pytest.raises(ObservationError) as caught:
        Fields(INPUTS, list(map(parse_field, fields))).observation(sent)
    assert said in str(caught.value)


def test_what_is_fixed_is_not_sent() -> None:
    fixed = {name: array for name, array in REST.items() if name != "raw"}
    with pytest.raises(ObservationError, match="state: input 'state' is fixed by --input"):
        Fields(INPUTS, (), fixed).observation({"raw": PICTURE, "state": np.zeros(8)})


def test_maps_without_end_are_refused() -> None:
    deep: dict[str, Any] = {}
    deep["a"] = deep
    with pytest.raises(ObservationError, match="more than 8 deep"):
        Fields(INPUTS).observation(deep)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("a/b=c", Field("a/b", "c")),
        ("prompt=", Field("prompt", "")),
        ("cam=image:-1..1", Field("cam", "image", (-1.0, 1.0))),
        ("a=b=c:0..255", Field("a=b", "c", (0.0, 255.0))),
    ],
)
def test_fields_as_text(text: str, field: Field) -> None:
    assert parse_field(text) == field


@pytest.mark.parametrize("text", ["", "a", "=b", "a=b:1..x", "a=b:1..1", "a=b:0..inf", "a=:0..1"])
def test_text_that_is_no_field(text: str) -> None:
    with pytest.raises(InputError, match="field"):
        parse_field(text)


@pytest.mark.parametrize(
    ("fields", "fixed", "said"),
    [
        (["cam=wrist_imge"], {}, "no input 'wrist_imge'; did you mean wrist_image?"),
        ([], {"stat": np.zeros(8)}, "no input 'stat'; did you mean state?"),
        (["a=state", "a=raw"], {}, "field 'a' is given twice"),
        (["a=state"], {"state": np.zeros(8)}, "input 'state' is fixed, and field 'a' too"),
    ],
)
def test_names_that_are_none_are_said_at_once(
    fields: list[str], fixed: dict[str, np.ndarray], said: str
) -> None:
    with pytest.raises(InputError) as caught:
        Fields(INPUTS, list(map(parse_field, fields)), fixed)
    assert said in str(caught.value)


words = st.sampled_from(["", "state", "x/y"])
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), words, st.binary()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from([*REST, "x"]), values))
def test_any_message_is_an_observation_or_an_error(sent: dict[str, Any]) -> None:
    try:
        found = Fields(INPUTS, (), {}).observation(sent)
    except ObservationError:
        return
    for spec in INPUTS:
        spec.check(found[spec.name])


def test_one_observation_of_several_is_refused_with_their_number() -> None:
    remembers = Fields((TensorSpec("observation.state", "float32", (2, 6)),))
    with pytest.raises(ObservationError, match="it reads 2 of them, the oldest first"):
        remembers.observation({"observation.state": np.zeros(6)})
    with pytest.raises(ObservationError, match=r"may be left out$"):
        remembers.observation({"observation.state": np.zeros(5)})
