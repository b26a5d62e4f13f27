"""Parts as modules of PyTorch: shared by the back ends `torch` and `torch-tensorrt`.

May import: errors, torch, and onnx to read a part's file. Public: `PartModule`, `read_part`,
`Weights`, `why_not`.
"""
