"""What a part makes of weights alone, computed once by ONNX Runtime itself.

A session's own folding is off, because it would copy weights into every session, while all sessions
share a file of the bundle. Without folding, a session would run such operators at every step. So
the values replace them in the part, by the rule of `vlacut.ir.offline`. Each value is computed when
it is written, by the same kernels.
"""

from __future__ import annotations

import hashlib
import threading

import numpy as np
import onnx_ir as ir

from vlacut.ir.fingerprint import fingerprint
from vlacut.ir.offline import Origin, offline
from vlacut.ir.rewriting import remove_unused, replace_value

_RECIPE = {"optimisation": "none", "threads": "1"}  # every operator by itself
_READING = threading.Lock()  # a tensor in a file is mapped when it is read, by one thread at a time


def fold_weights(model: ir.Model) -> None:
    """Replace what operators make of weights alone, in place; what has no content stays."""
    found = offline(model.graph).stored
    made = {value: _initializer(model, value, origin) for value, origin in found.items()}
    for value, initializer in made.items():
        if initializer is not None:
            model.graph.initializers.add(initializer)
            replace_value(value, initializer)
    remove_unused(model)


def _initializer(model: ir.Model, value: ir.Value, origin: Origin) -> ir.Value | None:
    """A value as an initializer; None if a weight behind it has a shape alone."""
    if value.dtype is None or any(weight.const_value is None for weight in origin.weights):
        return None
    name = f"{value.name}.{_digest(value, origin)}"
    content = _Content(model, value, origin, name)
    lazy = ir.LazyTensor(content, dtype=value.dtype, shape=_static(value), name=name)
    made = ir.TensorType(value.dtype)
    return ir.Value(name=name, shape=_static(value), type=made, const_value=lazy)


def _digest(value: ir.Value, origin: Origin) -> str:
    """Alike for what is made alike of the same weights, in every part and at every compilation."""
    text = f"{value.name} {fingerprint(origin.nodes)}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _static(value: ir.Value) -> ir.Shape:
    assert value.shape is not None, f"{value.name} has no shape"
    return ir.Shape(value.shape.numpy())


class _Content:
    """Computes a value from the weights behind it, when it is called."""

    def __init__(self, model: ir.Model, value: ir.Value, origin: Origin, name: str) -> None:
        graph = ir.convenience.extract(model.graph, inputs=origin.weights, outputs=[value])
        graph.initializers.clear()  # they are inputs, so that none is copied into the session
        self._model = ir.Model(graph, ir_version=model.ir_version)
        self._weights = {str(weight.name): weight.const_value for weight in origin.weights}
        self._name = name

    def __call__(self) -> ir.TensorProtocol:
        # Only here: whoever compiles parts that have nothing to compute needs no ONNX Runtime.
        from vlacut_backends.onnxruntime.execute import OnnxRuntimeEngine
        from vlacut_backends.onnxruntime.opening import open_session

        data = ir.to_proto(self._model).SerializeToString()
        engine = OnnxRuntimeEngine(open_session(data, self._name, _RECIPE), self._name)
        with _READING:
            inputs = {name: tensor.numpy() for name, tensor in self._weights.items() if tensor}
        (array,) = engine.run(inputs).values()
        return ir.tensor(np.ascontiguousarray(array), name=self._name)
