"""What `quantise` is made of: products, what they are multiplied with, rounding, rewriting.

May import: ir and what lies below. Public: `products_of`, `Observed`, `observations`, `eight_bits`,
`FourBits`, `gptq`.
"""
