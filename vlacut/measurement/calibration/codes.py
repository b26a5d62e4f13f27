"""Samples of products that read their weights as codes, of 8 and 4 bits, as `quantise` leaves them.

In 4 bits activations go through 8 bits inside the product, or stay as they are: see `Kernel.form`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import ml_dtypes
import numpy as np
import onnx_ir as ir

from vlacut.ir.graphs import ACTIVATIONS
from vlacut.measurement.calibration.chain import Chain, Sample

_OPSET = 21  # the first that has int4, and blocks
_GROUP = 32
_WIDTHS = ((64, 256), (256, 1024), (768, 768), (1024, 4096), (3072, 1024))
_ROWS = (1, 4, 16, 64)
_BEYOND_CACHES = (3072, 4096)  # whose two weights are 24 MB in 8 bits
_FEW_ROWS = (1, 4)  # of which such weights take all of the time
FORMS = ("w8a8", "w4a8", "w4a16")


def products_of_codes(forms: Sequence[str] = FORMS) -> Iterator[Sample]:
    """Chains of two products, there and back, by form, at rows from decode to prefill."""
    for form in forms:
        for depth, columns in _WIDTHS:
            for rows in _ROWS:
                yield _sample(form, rows, depth, columns)
        for rows in _FEW_ROWS:
            yield _sample(form, rows, *_BEYOND_CACHES)


def _sample(form: str, rows: int, depth: int, columns: int) -> Sample:
    chain = Chain(rows + depth, _OPSET)
    x = chain.input(1, rows, depth)
    for width, wide in ((depth, columns), (columns, depth)):
        x = (_in_8_bits if form == "w8a8" else _in_4_bits)(chain, x, (rows, width, wide), form)
    return Sample(f"{form} {rows}x{depth}x{columns} x2", chain.model(x))


def _in_8_bits(chain: Chain, x: ir.Value, sizes: tuple[int, int, int], form: str) -> ir.Value:
    rows, width, columns = sizes
    scale, zero = (
        chain.constant(one) for one in (np.array(0.03, np.float32), np.array(0, np.int8))
    )
    small = chain.run("QuantizeLinear", [x, scale, zero], (1, rows, width), ir.DataType.INT8)
    given = chain.run("DequantizeLinear", [small, scale], (1, rows, width))
    codes = chain.constant(chain.codes(127, width, columns).astype(np.int8))
    scales = chain.constant(np.full(columns, 1 / (70 * width**0.5), np.float32))
    weight = chain.run("DequantizeLinear", [codes, scales], (width, columns), axis=1)
    return chain.run("MatMul", [given, weight], (1, rows, columns))


def _in_4_bits(chain: Chain, x: ir.Value, sizes: tuple[int, int, int], form: str) -> ir.Value:
    rows, width, columns = sizes
    codes = chain.constant(chain.codes(7, width, columns).astype(ml_dtypes.int4))
    blocks = (width // _GROUP, columns)
    scales = chain.constant(np.full(blocks, 1 / (4 * width**0.5), np.float32))
    shape = (width, columns)
    weight = chain.run("DequantizeLinear", [codes, scales], shape, axis=0, block_size=_GROUP)
    made = chain.run("MatMul", [x, weight], (1, rows, columns))
    product = made.producer()
    if form == "w4a16" and product is not None:
        product.metadata_props[ACTIVATIONS] = "float"
    return made
