"""The program: phases of ONNX graphs, their annotations, and what every pass needs to read them.

May import: pricing, plans and what lies below; never the runtime. Public: `Program`, `Phase`,
`Dataflow`, `trace_dataflow`, `cuts_of`, `Key`, `Cuts`, `CUTS`, `parse_pipeline`, `Pipeline`,
`Pass`, `verify`, `print_program`, `fingerprint`.
"""
