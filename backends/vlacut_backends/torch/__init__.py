"""PyTorch as an executor: parts as modules of ATen's operators, on the CPU and on CUDA.

May import: errors, backend, aten; `build` also hardware and onnx_ir. Public: `TorchBuilder`,
`TorchExecutor`.
"""
