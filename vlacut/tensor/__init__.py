"""Tensors as everything here sees them: specs, codecs' sizes, pictures, numbers to try.

May import: errors. Public: `TensorSpec`, `dtype_bits`, `Codec`, `Coding`, `coded_bytes`,
`Pictures`, `pictures_in`, `Ints`, `Floats`, `ROUNDING`, `synthetic`, `varied`, `magnitude`,
`read_npz`, `npz_bytes`, `Premise`, `Operation`.
"""

from vlacut.tensor.spec import TensorSpec, dtype_bits

__all__ = ["TensorSpec", "dtype_bits"]
