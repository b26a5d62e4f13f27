"""The program: phases of ONNX graphs, their annotations, and what every pass needs to read them.

May import: pricing, plan and what lies below; never the runtime.
"""
