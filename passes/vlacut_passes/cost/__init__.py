"""What operators cost: one rule per operator, by kind of work.

May import: pricing and ir. Public: `Kernels`, `kernel_groups`, `Operands`, `work`.
"""
