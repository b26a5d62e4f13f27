"""torch.export and the ONNX exporter, with the questions that vlacut has before and after.

May import: torch, names, normalize, cures, explaining; ir and what lies below. Public: `export`,
`emit`; of tensors `is_real`, `faked`, `shapes_only`; of what torch says `reason`, `quiet`.
"""
