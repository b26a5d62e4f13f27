"""Tensors as everything here sees them: specs, codecs' sizes, pictures, numbers to try.

May import: errors, side.
"""

from vlacut.tensor.spec import TensorSpec, dtype_bits

__all__ = ["TensorSpec", "dtype_bits"]
