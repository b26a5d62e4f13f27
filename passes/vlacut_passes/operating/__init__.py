"""What `surgery` is made of: a phase as a file without its weights, and the way back.

May import: onnx, onnx_ir, numpy; `vlacut.ir`, `vlacut.errors`. Public: `Weights`, `name_apart`,
`put`.
"""
