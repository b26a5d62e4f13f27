"""Fingerprint: whether two sets of operators are the same work, whatever their weights hold."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import onnx_ir as ir

from vlacut.ir.graphs import ACTIVATIONS


def fingerprint(nodes: Iterable[ir.Node]) -> str:
    """SHA-256, in hexadecimal, of operators in order.

    The digest covers each operator's domain, type, attributes and operand names, whether its
    activations may be rounded, and the types and shapes of its outputs.
    """
    digest = hashlib.sha256()
    for node in nodes:
        for field in _fields(node):
            digest.update(field.encode() + b"\0")
        digest.update(b"\n")
    return digest.hexdigest()


def _fields(node: ir.Node) -> Iterator[str]:
    yield node.domain
    yield node.op_type
    yield node.metadata_props.get(ACTIVATIONS, "")
    for name in sorted(node.attributes):
        yield f"{name}={_attribute(node.attributes[name])}"
    for value in node.inputs:
        yield str(value.name) if value is not None else ""
    for value in node.outputs:
        yield f"{value.name}: {value.dtype}{value.shape}"


def _attribute(attribute: ir.Attr) -> str:
    if attribute.type == ir.AttributeType.GRAPH:
        return fingerprint(attribute.as_graph())
    if attribute.type == ir.AttributeType.TENSOR:
        return hashlib.sha256(attribute.as_tensor().tobytes()).hexdigest()
    return str(attribute.value)
