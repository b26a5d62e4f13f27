"""Front ends: a model of PyTorch, a .pt2 or ONNX file, or a folder of phases, as a program.

May import: ir and what lies below; torch in its own modules alone. Public: `load_program`,
`program_from_module`, `program_from_torch`, `TorchPhase`, `load_weights`, `open_checkpoint`.
"""
