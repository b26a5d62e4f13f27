"""What operators cost: one rule an operator, by kind of work.

May import: pricing and ir. Public: `Kernels`, `kernel_groups`, `Operands`, `work`.
"""
