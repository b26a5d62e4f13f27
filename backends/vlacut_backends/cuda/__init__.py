"""The CUDA driver, and the tensors of a control loop on a GPU: shared by `tensorrt` and
`onnxruntime`.

May import: errors, backend, numpy. Public: `Driver`, `driver`, `Lane`, `DeviceTensor`.
"""
