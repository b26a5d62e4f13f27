"""The kernels that operators are: the products that their speed depends on."""

from __future__ import annotations

import math

import pytest
from support.one_operator import BFLOAT16, Shapes, one_operator, tensor

from vlacut.hardware import load_device
from vlacut.ir.annotation import KERNEL, SECONDS
from vlacut_passes.annotate_cost import AnnotateCost


@pytest.mark.parametrize(
    ("kind", "shapes", "output", "attributes", "sizes"),
    [
        ("MatMul", [(2, 3, 5), (5, 7)], (2, 3, 7), {}, (6, 7, 5, 1)),
        ("MatMul", [(4, 2, 3, 5), (4, 2, 5, 7)], (4, 2, 3, 7), {}, (3, 7, 5, 8)),
        ("MatMul", [(4, 2, 3, 5), (2, 5, 7)], (4, 2, 3, 7), {}, (12, 7, 5, 2)),
        ("MatMul", [(3, 5), (5,)], (3,), {}, (3, 1, 5, 1)),
        ("Gemm", [(5, 3), (7, 5)], (3, 7), {"transA": 1, "transB": 1}, (3, 7, 5, 1)),
        ("Conv", [(1, 6, 8, 8), (10, 3, 3, 3)], (1, 10, 8, 8), {"group": 2}, (64, 5, 27, 2)),
        ("ConvTranspose", [(1, 6, 4, 4), (6, 5, 2, 2)], (1, 5, 8, 8), {}, (16, 20, 6, 1)),
        ("Attention", [(2, 4, 3, 8), (2, 2, 9, 8), (2, 2, 9, 6)], (2, 4, 3, 6), {}, (3, 14, 9, 8)),
        ("Einsum", [(2, 3, 5), (2, 5, 7)], (2, 3, 7), {"equation": "bij,bjk->bik"}, (3, 7, 5, 2)),
        ("Relu", [(2, 3)], (2, 3), {}, (1, 1, 1, 1)),
    ],
)
def test_the_product_that_an_operator_is(
    kind: str,
    shapes: Shapes,
    output: tuple[int, ...],
    attributes: dict[str, object],
    sizes: tuple[int, ...],
) -> None:
    inputs = [tensor(f"x{at}", shape) for at, shape in enumerate(shapes)]
    program = one_operator(kind, inputs, output, **attributes)
    AnnotateCost().run(program)
    kernel = KERNEL.get(next(iter(program.phases[0].model.graph)))
    assert (kernel.m, kernel.n, kernel.k, kernel.batch) == sizes
    if kernel.kind != "pointwise":
        assert kernel.cost.flops == 2 * math.prod(sizes)


def test_weights_are_read_from_the_cache_where_a_phase_comes_back_to_them() -> None:
    """A vector times 34 MB of weights: an A100's 40 MB of L2 keep them between control steps."""
    x, w = tensor("x", (1, 4096), BFLOAT16), tensor("w", (4096, 4096), BFLOAT16)
    program = one_operator("MatMul", [x, w], (1, 4096), [w], BFLOAT16)
    AnnotateCost(cloud="a100+cuda-graph").run(program)
    found = SECONDS.get(next(iter(program.phases[0].model.graph))).cloud
    device = load_device("a100+cuda-graph")
    part, moved = device.stack.memory["gemm"], 2 * (4096 * 4096 + 8192)
    assert found == pytest.approx(moved / device.cache_bandwidth / part + device.stack.launch_s)
