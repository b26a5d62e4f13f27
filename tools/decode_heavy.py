"""A policy that says tokens and is bound by reading its weights: a decoder over caches, no camera.

Its shape is OpenVLA's in small: a prefill of a prompt, a loop of trips that feeds back its own
argmax, keys and values of fixed size with a mask. Weights are drawn; only its times mean anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper

from vlacut.frontends.onnx import finish_graph
from vlacut.ir.program import Phase, Program
from vlacut.tensor import TensorSpec

_HEAD = 64
_FLOAT, _INT64 = TensorProto.FLOAT, TensorProto.INT64


@dataclass(frozen=True)
class Size:
    """Of the decoder: its layers, their width, and the words it knows."""

    layers: int = 6
    width: int = 1024
    words: int = 512

    @property
    def nbytes(self) -> int:
        """Of its matrices in float32."""
        return 4 * self.width * (12 * self.layers * self.width + 2 * self.words)


class Decoder:
    """Writes the phases of a decoder.

    Args:
        size: of it.
        prompt: tokens that the prefill sees.
        trips: of the loop, after the prefill's token.
    """

    def __init__(self, size: Size, prompt: int, trips: int) -> None:
        self._size, self._prompt, self._trips = size, prompt, trips
        self._numbers = np.random.default_rng(0)
        self._weights: dict[str, ir.TensorProtocol] = {}
        self._places = prompt + trips

    def program(self) -> Program:
        """prefill, and decode as often as there are trips; the action is the tokens."""
        carried = {"next.token": "token", "tokens": "said", "next.position": "position"}
        carried |= {f"next.{name}": name for name in self._caches()}
        phases = [Phase("prefill", self._prefill())]
        if self._trips:
            phases.append(Phase("decode", self._decode(), self._trips, carried))
        action = "tokens" if self._trips else "said"
        outputs = (TensorSpec(action, "int64", (1, self._trips + 1)),)
        inputs = (TensorSpec("ids", "int64", (1, self._prompt)),)
        return Program("decoder", tuple(phases), inputs, outputs)

    def _caches(self) -> Iterator[str]:
        for layer in range(self._size.layers):
            yield from (f"key.{layer}", f"value.{layer}")

    def _prefill(self) -> ir.Model:
        graph = _Graph("prefill", {"ids": (_INT64, (1, self._prompt))})
        hidden = graph.op("Gather", self._weight(graph, "embed", self._size.words), "ids")
        far = np.where(np.tri(self._prompt, dtype=bool), 0, -1e9).astype(np.float32)
        mask = self._constant(graph, "causal", far)
        made: dict[str, str] = {}
        for layer in range(self._size.layers):
            key, value = self._keys(graph, hidden, layer, self._prompt)
            hidden = self._layer(graph, hidden, layer, self._prompt, key, value, mask)
            room = graph.whole(0, 0, 0, 0, 0, 0, self._places - self._prompt, 0)
            made[f"key.{layer}"] = graph.op("Pad", key, room)
            made[f"value.{layer}"] = graph.op("Pad", value, room)
        ends = (graph.whole(one) for one in (self._prompt - 1, self._prompt, 1, 1))
        token = self._token(graph, graph.op("Slice", hidden, *ends))
        said = graph.op("Pad", token, graph.whole(0, 0, 0, self._trips))
        nothing = graph.op("ReduceSum", graph.op("Sub", "ids", "ids"), graph.whole(1), keepdims=0)
        place = graph.op("Add", nothing, graph.whole(self._prompt))
        return self._model(graph, {"token": token, "said": said, "position": place, **made})

    def _decode(self) -> ir.Model:
        shape = (1, self._size.width // _HEAD, self._places, _HEAD)
        caches = {name: (_FLOAT, shape) for name in self._caches()}
        said = (_INT64, (1, self._trips + 1))
        given = {"token": (_INT64, (1, 1)), "said": said, "position": (_INT64, (1,)), **caches}
        graph = _Graph("decode", given)
        hidden = graph.op("Gather", self._weight(graph, "embed", self._size.words), "token")
        slots = graph.whole(*range(self._places))
        here = graph.op("Reshape", graph.op("Equal", slots, "position"), graph.whole(1, 1, -1, 1))
        seen = graph.op("LessOrEqual", slots, "position")
        ends = [self._constant(graph, f"mask{one:g}", np.full(1, one, "f4")) for one in (0, -1e9)]
        mask = graph.op("Where", seen, *ends)
        made: dict[str, str] = {}
        for layer in range(self._size.layers):
            new = self._keys(graph, hidden, layer, 1)
            names = f"key.{layer}", f"value.{layer}"
            key, value = (
                graph.op("Where", here, one, name) for one, name in zip(new, names, strict=True)
            )
            made |= {f"next.{names[0]}": key, f"next.{names[1]}": value}
            hidden = self._layer(graph, hidden, layer, 1, key, value, mask)
        token = self._token(graph, hidden)
        number = graph.op("Sub", "position", graph.whole(self._prompt - 1))
        which = graph.op("Equal", graph.whole(*range(self._trips + 1)), number)
        made |= {"next.token": token, "tokens": graph.op("Where", which, token, "said")}
        made["next.position"] = graph.op("Add", "position", graph.whole(1))
        return self._model(graph, made)

    def _keys(self, graph: _Graph, hidden: str, layer: int, rows: int) -> tuple[str, str]:
        normed = self._norm(graph, hidden, f"{layer}.before")
        key, value = (
            self._heads(graph, self._product(graph, normed, f"{layer}.{which}"), rows)
            for which in ("key", "value")
        )
        return key, value

    def _layer(
        self, graph: _Graph, hidden: str, layer: int, rows: int, key: str, value: str, mask: str
    ) -> str:
        normed = self._norm(graph, hidden, f"{layer}.before")
        query = self._heads(graph, self._product(graph, normed, f"{layer}.query"), rows)
        scores = graph.op("MatMul", query, graph.op("Transpose", key, perm=[0, 1, 3, 2]))
        shares = graph.op("Softmax", graph.op("Add", scores, mask), axis=-1)
        mixed = graph.op("Transpose", graph.op("MatMul", shares, value), perm=[0, 2, 1, 3])
        flat = graph.op("Reshape", mixed, graph.whole(1, rows, self._size.width))
        hidden = graph.op("Add", hidden, self._product(graph, flat, f"{layer}.out"))
        normed = self._norm(graph, hidden, f"{layer}.after")
        inner = graph.op("Relu", self._product(graph, normed, f"{layer}.up", 4))
        return graph.op("Add", hidden, self._product(graph, inner, f"{layer}.down", 1, 4))

    def _heads(self, graph: _Graph, value: str, rows: int) -> str:
        apart = graph.whole(1, rows, self._size.width // _HEAD, _HEAD)
        return graph.op("Transpose", graph.op("Reshape", value, apart), perm=[0, 2, 1, 3])

    def _norm(self, graph: _Graph, value: str, name: str) -> str:
        ones = self._constant(graph, f"{name}.scale", np.ones(self._size.width, "f4"))
        return graph.op("LayerNormalization", value, ones, axis=-1)

    def _product(self, graph: _Graph, value: str, name: str, out: int = 1, into: int = 1) -> str:
        width = self._size.width
        return graph.op("MatMul", value, self._weight(graph, name, into * width, out * width))

    def _token(self, graph: _Graph, hidden: str) -> str:
        head = self._weight(graph, "head", self._size.width, self._size.words)
        logits = graph.op("MatMul", self._norm(graph, hidden, "last"), head)
        return graph.op("ArgMax", logits, axis=-1, keepdims=0)

    def _weight(self, graph: _Graph, name: str, rows: int, columns: int = 0) -> str:
        if name not in self._weights:
            shape = (rows, columns or self._size.width)
            drawn = self._numbers.standard_normal(shape, np.float32) / np.float32(rows**0.5)
            self._weights[name] = ir.tensor(drawn, name=name)
        return graph.read(name)

    def _constant(self, graph: _Graph, name: str, array: np.ndarray) -> str:
        self._weights.setdefault(name, ir.tensor(array, name=name))
        return graph.read(name)

    def _model(self, graph: _Graph, outputs: Mapping[str, str]) -> ir.Model:
        model = ir.from_proto(graph.proto(outputs, self._weights))
        for value in model.graph.inputs[len(graph.given) :]:
            value.const_value = self._weights.get(str(value.name)) or ir.tensor(
                graph.wholes[str(value.name)], name=str(value.name)
            )
            model.graph.initializers.add(value)
        del model.graph.inputs[len(graph.given) :]
        return finish_graph(model, {}, graph.name)


class _Graph:
    """A graph under construction; weights are inputs of it until they are put in by reference."""

    def __init__(self, name: str, given: Mapping[str, tuple[int, tuple[int, ...]]]) -> None:
        self.name, self.given = name, given
        self.wholes: dict[str, np.ndarray] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._read: dict[str, None] = {}

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """A new operator; the name of what it makes."""
        name = f"{self.name}.{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def read(self, name: str) -> str:
        """A weight."""
        self._read[name] = None
        return name

    def whole(self, *numbers: int) -> str:
        """Whole numbers."""
        name = f"whole.{'.'.join(map(str, numbers))}"
        self.wholes[name] = np.array(numbers, np.int64)
        return self.read(name)

    def proto(
        self, outputs: Mapping[str, str], weights: Mapping[str, ir.TensorProtocol]
    ) -> onnx.ModelProto:
        """The model in ONNX's own form."""
        ends = [helper.make_node("Identity", [made], [one], one) for one, made in outputs.items()]
        known: dict[str, tuple[int, tuple[int, ...]]] = dict(self.given)
        for name in self._read:
            array = self.wholes.get(name)
            shape = array.shape if array is not None else tuple(weights[name].numpy().shape)
            known[name] = (_INT64 if array is not None else _FLOAT), shape
        infos = [helper.make_tensor_value_info(name, *told) for name, told in known.items()]
        kinds = {
            name: _FLOAT if name.startswith(("key", "value", "next.key", "next.value")) else _INT64
            for name in outputs
        }
        made = [helper.make_tensor_value_info(name, kinds[name], None) for name in outputs]
        graph = helper.make_graph([*self._nodes, *ends], self.name, infos, made)
        opsets = [helper.make_opsetid("", 20)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)
