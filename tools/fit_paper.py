"""Fits the efficiencies of A100, Orin and Thor on RoboECC's tables, and predicts the rest of them.

    .venv/bin/python tools/fit_paper.py

Fitted per device: launch_s, compute_efficiency and memory_efficiency, by least squares on the
relative errors of its two whole-model rows (OpenVLA and CogACT on this device alone; tables II and
III of the paper, no other cell is used), with a prior on the two figures that such totals hardly
tell apart: see PRIORS. Then every compute cell of the rows with a cut is predicted from the fit.

The models are written down by hand from their architectures, in bfloat16, one operator a kernel as
in eager PyTorch, and priced by the rules of `annotate-cost`.

The predictions are not blind. A first version, with CogACT's head in float32 and its vision and
head on the cloud's side of the `fixed` rows, missed the cells by 19.5 % on average (worst 46 %);
bfloat16, and the rest on the edge, were taken after seeing that. The priors were set knowing the
split into prefill and decode that the rows with a cut imply.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir
from scipy.optimize import least_squares

from vlacut.cost import seconds
from vlacut.hardware import Device, load_device
from vlacut_passes.cost.operator import Operands
from vlacut_passes.cost.rules import Work, work

DEVICES = ("a100", "jetson-agx-orin", "jetson-agx-thor")
WHOLE = {  # (OpenVLA, CogACT), ms: rows cloud-only and edge-only of tables II and III
    "a100": (151.2, 111.4),
    "jetson-agx-orin": (1119.4, 775.3),
    "jetson-agx-thor": (628.9, 429.6),
}
# Seconds from kernel to kernel that eager PyTorch needs (CPU bound; the CPUs of the Jetsons are
# slower), and the part of the peak bandwidth that streaming kernels reach: assumed, with a
# standard deviation of the logarithm.
LAUNCH_PRIOR = {"a100": 4e-6, "jetson-agx-orin": 8e-6, "jetson-agx-thor": 8e-6}
LAUNCH_SPREAD, MEMORY_PRIOR, MEMORY_SPREAD, ROW_SPREAD = 0.5, 0.87, 0.05, 0.03
CELLS = {  # (model, edge, method) -> (cloud ms, edge ms), rows to predict
    ("openvla", "jetson-agx-orin", "fixed"): (87.9, 717.8),
    ("openvla", "jetson-agx-orin", "roboecc"): (136.7, 94.5),
    ("openvla", "jetson-agx-thor", "fixed"): (89.5, 378.4),
    ("openvla", "jetson-agx-thor", "roboecc"): (137.1, 51.3),
    ("cogact", "jetson-agx-orin", "fixed"): (46.9, 437.2),
    ("cogact", "jetson-agx-orin", "roboecc"): (81.9, 143.2),
    ("cogact", "jetson-agx-thor", "fixed"): (47.2, 240.4),
    ("cogact", "jetson-agx-thor", "roboecc"): (82.7, 105.7),
}


class Tracer:
    """Writes down operators one by one, with the work of each."""

    def __init__(self, dtype: ir.DataType = ir.DataType.BFLOAT16) -> None:
        self._dtype = dtype
        self._weights: set[ir.Value] = set()
        self._operands = Operands(self._weights)
        self.work: list[Work] = []

    def value(self, *shape: int, dtype: ir.DataType | None = None) -> ir.Value:
        return ir.Value(shape=ir.Shape(shape), type=ir.TensorType(dtype or self._dtype))

    def weight(self, *shape: int) -> ir.Value:
        made = self.value(*shape)
        self._weights.add(made)
        return made

    def run(
        self, kind: str, inputs: Sequence[ir.Value], shape: Sequence[int], **attributes: object
    ) -> ir.Value:
        node = ir.node(kind, inputs, attributes)
        output = node.outputs[0]
        output.dtype, output.shape = self._dtype, ir.Shape(shape)
        ir.node("Identity", [output])  # somebody reads it
        self.work.append(work(self._operands.operator(node)))
        return output

    def linear(self, x: ir.Value, width: int, bias: bool = False) -> ir.Value:
        shape = _shape(x)
        x = self.run("MatMul", [x, self.weight(shape[-1], width)], (*shape[:-1], width))
        return self.run("Add", [x, self.weight(width)], _shape(x)) if bias else x

    def like(self, kind: str, *inputs: ir.Value) -> ir.Value:
        return self.run(kind, inputs, _shape(inputs[0]))


def _shape(value: ir.Value) -> tuple[int, ...]:
    assert value.shape is not None
    return tuple(value.shape.numpy())


def llama_layer(tokens: int, past: int) -> list[Work]:
    """A layer of Llama-2 7B: width 4096, 32 heads, feed-forward 11008; rotary embedding by hand."""
    trace, width, heads, depth = Tracer(), 4096, 32, 128
    x = trace.value(1, tokens, width)
    y = trace.run("RMSNormalization", [x, trace.weight(width)], _shape(x))
    q, k, v = (
        trace.run("Transpose", [_heads(trace, trace.linear(y, width), heads)], _by_head(tokens))
        for _ in range(3)
    )
    q, k = (_rotate(trace, item) for item in (q, k))
    if past:
        full = (1, heads, past + tokens, depth)
        k, v = (
            trace.run("Concat", [trace.value(1, heads, past, depth), item], full, axis=2)
            for item in (k, v)
        )
    y = trace.run("Attention", [q, k, v], _shape(q))
    y = trace.run("Transpose", [y], (1, tokens, width))
    x = trace.like("Add", trace.linear(y, width), x)
    y = trace.run("RMSNormalization", [x, trace.weight(width)], _shape(x))
    gate = trace.linear(y, 11008)
    y = trace.like(
        "Mul", trace.like("Mul", gate, trace.like("Sigmoid", gate)), trace.linear(y, 11008)
    )
    trace.like("Add", trace.linear(y, width), x)
    return trace.work


def _by_head(tokens: int) -> tuple[int, ...]:
    return (1, 32, tokens, 128)


def _heads(trace: Tracer, x: ir.Value, heads: int) -> ir.Value:
    batch, tokens, width = _shape(x)
    return trace.run("Reshape", [x, trace.weight(4)], (batch, tokens, heads, width // heads))


def _rotate(trace: Tracer, x: ir.Value) -> ir.Value:
    batch, heads, tokens, depth = _shape(x)
    half = (batch, heads, tokens, depth // 2)
    cosine, sine = (trace.value(1, 1, tokens, depth) for _ in range(2))
    one, other = trace.run("Slice", [x], half), trace.run("Slice", [x], half)
    turned = trace.run("Concat", [trace.like("Neg", other), one], _shape(x), axis=-1)
    return trace.like("Add", trace.like("Mul", x, cosine), trace.like("Mul", turned, sine))


def encoder_layer(
    batch: int, tokens: int, width: int, heads: int, inner: int, scaled: bool
) -> list[Work]:
    """A pre-norm layer of a ViT or of a DiT conditioned in context; DINOv2's has layer scale."""
    trace = Tracer()
    x = trace.value(batch, tokens, width)
    y = trace.run("LayerNormalization", [x, trace.weight(width), trace.weight(width)], _shape(x))
    q, k, v = (
        trace.run(
            "Transpose",
            [_heads(trace, trace.linear(y, width, bias=True), heads)],
            (batch, heads, tokens, width // heads),
        )
        for _ in range(3)
    )
    y = trace.run("Attention", [q, k, v], _shape(q))
    y = trace.linear(trace.run("Transpose", [y], _shape(x)), width, bias=True)
    x = trace.like("Add", x, trace.like("Mul", y, trace.weight(width)) if scaled else y)
    y = trace.run("LayerNormalization", [x, trace.weight(width), trace.weight(width)], _shape(x))
    y = trace.linear(trace.like("Gelu", trace.linear(y, inner, bias=True)), width, bias=True)
    trace.like("Add", x, trace.like("Mul", y, trace.weight(width)) if scaled else y)
    return trace.work


def vision() -> list[Work]:
    """DINOv2-L and SigLIP-so400m, patches of 14 at 224 (256 patches), fused projector.

    The last layer of either is not used; DINOv2 has one class token and four registers.
    """
    trace = Tracer()
    for width in (1024, 1152):
        image = trace.value(1, 3, 224, 224)
        trace.run("Conv", [image, trace.weight(width, 3, 14, 14)], (1, width, 16, 16))
        patches = trace.run("Transpose", [trace.value(1, width, 256)], (1, 256, width))
        trace.like("Add", patches, trace.weight(256, width))
    fused = trace.run(
        "Concat", [trace.value(1, 256, 1024), trace.value(1, 256, 1152)], (1, 256, 2176)
    )
    y = trace.like("Gelu", trace.linear(fused, 4 * 2176, bias=True))
    trace.linear(trace.like("Gelu", trace.linear(y, 4096, bias=True)), 4096, bias=True)
    dino = encoder_layer(1, 261, 1024, 16, 4096, True)
    siglip = encoder_layer(1, 256, 1152, 16, 4304, False)
    return [*trace.work, *dino * 23, *siglip * 26]


def head() -> list[Work]:
    """Final normalisation, lm_head of 32064 words, choice of the word and its embedding."""
    trace = Tracer()
    y = trace.run("RMSNormalization", [trace.value(1, 1, 4096), trace.weight(4096)], (1, 1, 4096))
    logits = trace.linear(y, 32064)
    trace.run("ArgMax", [logits], (1, 1))
    word = trace.value(1, 1, dtype=ir.DataType.INT64)
    trace.run("Gather", [trace.weight(32064, 4096), word], (1, 1, 4096))
    return trace.work


def denoise() -> list[Work]:
    """A step of CogACT's DiT-B, 17 tokens, twice for classifier-free guidance.

    Embeddings, guidance and the update of the sample are some forty small kernels.
    """
    trace = Tracer()
    for width in (7, 256, 4096):  # action, time, condition
        trace.linear(trace.value(2, 17, width), 768, bias=True)
    for _ in range(40):
        trace.like("Mul", trace.value(2, 17, 768), trace.value(2, 17, 768))
    return trace.work + encoder_layer(2, 17, 768, 12, 3072, False) * 12


@dataclass(frozen=True)
class Pieces:
    """Work of the pieces of both models; a prompt is 256 patches and 24 words."""

    vision: list[Work]
    prefill_layer: list[Work]
    decode_layer: list[Work]
    head: list[Work]
    denoise: list[Work]


def pieces() -> Pieces:
    return Pieces(vision(), llama_layer(280, 0), llama_layer(1, 283), head(), denoise())


@dataclass(frozen=True)
class Times:
    """Seconds of the pieces on a device."""

    vision: float
    prefill_layer: float
    decode_layer: float
    head: float
    denoise: float

    def layers(self, count: int, decodes: int) -> float:
        return count * (self.prefill_layer + decodes * self.decode_layer)

    def rest(self, model: str) -> float:
        """All but the layers and the vision: heads of seven words, or ten steps of denoising."""
        return 7 * self.head if model == "openvla" else 10 * self.denoise

    def whole(self, model: str) -> float:
        return self.vision + self.layers(32, DECODES[model]) + self.rest(model)


DECODES = {"openvla": 6, "cogact": 1}


def times(made: Pieces, device: Device) -> Times:
    def total(items: list[Work]) -> float:
        return sum(seconds(item.cost, device, item.rate) for item in items)

    return Times(
        total(made.vision),
        total(made.prefill_layer),
        total(made.decode_layer),
        total(made.head),
        total(made.denoise),
    )


def fit(made: Pieces, device: Device) -> Device:
    """The device with launch_s and efficiencies that its whole-model rows and the prior give."""
    prior = LAUNCH_PRIOR[device.name]

    def residuals(x: Sequence[float]) -> list[float]:
        found = times(made, _with(device, x))
        rows = [
            math.log(found.whole(model) * 1e3 / paper) / ROW_SPREAD
            for model, paper in zip(DECODES, WHOLE[device.name], strict=True)
        ]
        return [
            *rows,
            (x[0] - math.log(prior)) / LAUNCH_SPREAD,
            (x[1] - math.log(MEMORY_PRIOR)) / MEMORY_SPREAD,
        ]

    start = [math.log(prior), math.log(MEMORY_PRIOR), math.log(0.2)]
    bounds = ([-20.0, -3.0, -5.0], [-8.0, 0.0, 0.0])
    return _with(device, least_squares(residuals, start, bounds=bounds).x)


def _with(device: Device, x: Sequence[float]) -> Device:
    launch, memory, compute = (math.exp(item) for item in x)
    return replace(device, launch_s=launch, memory_efficiency=memory, compute_efficiency=compute)


def predictions(by_device: Mapping[str, Times]) -> Iterator[tuple[str, float, float]]:
    """Cell, paper and predicted, ms: 16 or 32 layers in the cloud, all the rest on the edge."""
    for (model, edge, method), (cloud_ms, edge_ms) in CELLS.items():
        here, there = by_device[edge], by_device["a100"]
        decodes = DECODES[model]
        count = 32 if method == "roboecc" else 16
        edge_s = here.vision + here.layers(32 - count, decodes) + here.rest(model)
        found = there.layers(count, decodes), edge_s
        for side, paper, value in zip(("cloud", "edge"), (cloud_ms, edge_ms), found, strict=True):
            yield f"{model} {edge} {method} {side}", paper, value * 1e3


def main() -> None:
    made = pieces()
    fitted = {name: fit(made, load_device(name)) for name in DEVICES}
    by_device = {name: times(made, device) for name, device in fitted.items()}
    for name, device in fitted.items():
        found = by_device[name]
        print(
            f"{name}: launch_s {device.launch_s:.2e} compute {device.compute_efficiency:.3f} "
            f"memory {device.memory_efficiency:.3f}"
        )
        for model, paper in zip(DECODES, WHOLE[name], strict=True):
            value = found.whole(model) * 1e3
            print(f"  whole {model}: {value:.1f} ms, paper {paper} ({value / paper - 1:+.1%})")
        print(
            f"  prefill {32e3 * found.prefill_layer:.1f} decode {32e3 * found.decode_layer:.1f} "
            f"vision {1e3 * found.vision:.1f} head {1e3 * found.head:.2f} "
            f"denoise {1e3 * found.denoise:.2f} ms"
        )
    errors = []
    for cell, paper, value in predictions(by_device):
        errors.append(abs(value / paper - 1))
        print(f"{cell:45} paper {paper:7.1f} predicted {value:7.1f} {value / paper - 1:+7.1%}")
    print(f"mean {sum(errors) / len(errors):.1%}, worst {max(errors):.1%}")


if __name__ == "__main__":
    main()
