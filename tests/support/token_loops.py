"""Random small programs that say tokens: a prefill, a loop that feeds back its own argmax, and what
makes an action of the tokens.

Layers attend over a cache of fixed size, as those of the zoo do. What is drawn is a pure function
of the seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from support.instances import WIDTH, Writer
from vlacut.frontends.onnx import finish_graph
from vlacut.ir.program import Phase, Program
from vlacut.tensor import TensorSpec

WORDS = 13
PROMPT = 3


def token_program(
    seed: int, trips: int = 3, layers: int = 2, memory: bool = False, width: int = WIDTH
) -> Program:
    """prefill, decode x trips, detokenize; with `memory`, the loop also reads something of prefill
    that it does not carry, and detokenize reads the observation.
    """
    numbers = np.random.default_rng(seed)
    weights: dict[str, np.ndarray] = {}
    build = _Build(numbers, weights, trips, layers, memory, width)
    carried = {"next.token": "token", "words": "said", "next.position": "position"}
    carried |= {f"next.cache.{at}": f"cache.{at}" for at in range(layers)}
    phases = (
        Phase("prefill", build.prefill()),
        Phase("decode", build.decode(), trips, carried),
        Phase("detokenize", build.detokenize()),
    )
    inputs = [TensorSpec("ids", "int64", (1, PROMPT))]
    if memory:
        inputs.append(TensorSpec("pose", "float32", (1, trips + 1)))
    outputs = (TensorSpec("action", "float32", (1, trips + 1)),)
    return Program(f"tokens{seed}", phases, tuple(inputs), outputs)


def prompts(program: Program, count: int, seed: int = 0) -> list[dict[str, np.ndarray]]:
    """Observations."""
    numbers = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        observed: dict[str, np.ndarray] = {}
        for spec in program.inputs:
            if spec.dtype == "int64":
                observed[spec.name] = numbers.integers(0, WORDS, spec.shape)
            else:
                observed[spec.name] = numbers.standard_normal(spec.shape).astype(np.float32)
        found.append(observed)
    return found


class _Build:
    def __init__(
        self,
        numbers: np.random.Generator,
        weights: dict[str, np.ndarray],
        trips: int,
        layers: int,
        memory: bool,
        width: int,
    ) -> None:
        self._numbers, self._weights = numbers, weights
        self._trips, self._layers, self._memory, self._width = trips, layers, memory, width
        self._places = PROMPT + trips

    def prefill(self) -> ir.Model:
        write = self._writer()
        ids = write.given("ids", 1, PROMPT)
        hidden = write.op("Gather", self._table(write), ids, axis=0)
        later = self._places - PROMPT
        mask = np.where(np.tri(PROMPT, dtype=bool), 0, -1e9).astype(np.float32)
        self._weights["causal"] = mask
        write.weight("causal", *mask.shape)
        caches = []
        for at in range(self._layers):
            cache = self._product(write, hidden, f"{at}.kv")
            hidden = self._layer(write, hidden, cache, "causal", at)
            room = write.whole(0, 0, 0, 0, later, 0)
            caches.append(write.op("Pad", cache, room))
        last = write.whole(PROMPT - 1), write.whole(PROMPT), write.whole(1), write.whole(1)
        token = self._token(write, write.op("Slice", hidden, *last))
        outputs = {"token": (token, TensorProto.INT64)}
        empty = write.op("Pad", token, write.whole(0, 0, 0, self._trips))
        outputs["said"] = (empty, TensorProto.INT64)
        place = write.op("Add", write.whole(PROMPT), self._zero(write, ids))
        outputs["position"] = (place, TensorProto.INT64)
        for at, cache in enumerate(caches):
            outputs[f"cache.{at}"] = (cache, TensorProto.FLOAT)
        if self._memory:
            mean = write.op("ReduceMean", hidden, write.whole(1), keepdims=1)
            outputs["gist"] = (mean, TensorProto.FLOAT)
        return self._model(write, "prefill", outputs, {"ids": TensorProto.INT64})

    def _zero(self, write: Writer, ids: str) -> str:
        """[1], so that the place is made by the phase."""
        nothing = write.op("Sub", ids, ids)
        return write.op("ReduceSum", nothing, write.whole(1), keepdims=0)

    def decode(self) -> ir.Model:
        write = self._writer()
        token, said = write.given("token", 1, 1), write.given("said", 1, self._trips + 1)
        place = write.given("position", 1)
        hidden = write.op("Gather", self._table(write), token, axis=0)
        if self._memory:
            hidden = write.op("Add", hidden, write.given("gist", 1, 1, self._width))
        slots = write.whole(*range(self._places))
        here = write.op("Reshape", write.op("Equal", slots, place), write.whole(1, -1, 1))
        ahead = write.op("LessOrEqual", slots, place)
        none, all_ = write.weight("zero", 1), write.weight("hidden", 1)
        self._weights["zero"], self._weights["hidden"] = np.zeros(1, "f4"), np.full(1, -1e9, "f4")
        mask = write.op("Where", ahead, none, all_)
        outputs: dict[str, tuple[str, int]] = {}
        for at in range(self._layers):
            past = write.given(f"cache.{at}", 1, self._places, self._width)
            cache = write.op("Where", here, self._product(write, hidden, f"{at}.kv"), past)
            hidden = self._layer(write, hidden, cache, mask, at)
            outputs[f"next.cache.{at}"] = (cache, TensorProto.FLOAT)
        made = self._token(write, hidden)
        one = write.whole(1)
        behind = write.op("Sub", place, write.whole(PROMPT - 1))
        which = write.op("Equal", write.whole(*range(self._trips + 1)), behind)
        outputs["next.token"] = (made, TensorProto.INT64)
        outputs["words"] = (write.op("Where", which, made, said), TensorProto.INT64)
        outputs["next.position"] = (write.op("Add", place, one), TensorProto.INT64)
        whole = dict.fromkeys(("token", "said", "position"), TensorProto.INT64)
        return self._model(write, "decode", outputs, whole)

    def detokenize(self) -> ir.Model:
        write = self._writer()
        words = write.given("words", 1, self._trips + 1)
        action = write.op("Gather", write.weight("bins", WORDS), words, axis=0)
        if self._memory:
            action = write.op("Add", action, write.given("pose", 1, self._trips + 1))
        made = {"action": (action, TensorProto.FLOAT)}
        return self._model(write, "detokenize", made, {"words": TensorProto.INT64})

    def _writer(self) -> Writer:
        return Writer(self._numbers, flat=False, weights=self._weights)

    def _table(self, write: Writer) -> str:
        return write.weight("embedding", WORDS, self._width)

    def _product(self, write: Writer, value: str, name: str) -> str:
        weight = write.weight(name, self._width, self._width)
        return write.op("MatMul", value, write.op("Transpose", weight, perm=[1, 0]))

    def _layer(self, write: Writer, hidden: str, cache: str, mask: str, at: int) -> str:
        normed = write.op(
            "LayerNormalization", hidden, write.weight(f"{at}.scale", self._width), axis=-1
        )
        query = self._product(write, normed, f"{at}.q")
        scores = write.op("MatMul", query, write.op("Transpose", cache, perm=[0, 2, 1]))
        shares = write.op("Softmax", write.op("Add", scores, mask), axis=-1)
        mixed = self._product(write, write.op("MatMul", shares, cache), f"{at}.o")
        hidden = write.op("Add", hidden, mixed)
        inner = write.op("Tanh", self._product(write, hidden, f"{at}.up"))
        return write.op("Add", hidden, self._product(write, inner, f"{at}.down"))

    def _token(self, write: Writer, hidden: str) -> str:
        logits = write.op("MatMul", hidden, write.weight("head", self._width, WORDS))
        return write.op("ArgMax", logits, axis=-1, keepdims=0)

    def _model(
        self,
        write: Writer,
        name: str,
        outputs: Mapping[str, tuple[str, int]],
        types: Mapping[str, int],
    ) -> ir.Model:
        nodes = [*write.nodes]
        for output, (value, _) in outputs.items():
            nodes.append(helper.make_node("Identity", [value], [output], output))
        read = {one for node in nodes for one in node.input}
        graph = helper.make_graph(
            nodes,
            name,
            [
                helper.make_tensor_value_info(one, types.get(one, TensorProto.FLOAT), shape)
                for one, shape in write.inputs.items()
            ],
            [helper.make_tensor_value_info(one, kind, None) for one, (_, kind) in outputs.items()],
            [
                numpy_helper.from_array(array, one)
                for one, array in self._weights.items()
                if one in read
            ],
        )
        opsets = [helper.make_opsetid("", 20)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        return finish_graph(ir.from_proto(model), {}, name)


def greedy_tokens(program: Program, actions: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The tokens that actions of a program without memory were made of."""
    bins = program.phases[-1].model.graph.initializers["bins"].const_value
    assert bins is not None
    table = bins.numpy()
    return [np.array([int(np.abs(table - one).argmin()) for one in row[0]]) for row in actions]
