"""From a program and a target to a bundle: the pipeline, its products, and advice on them.

May import: everything but the API, the command line and what measures. Public: `Target`, `Planned`,
`plan_program`, `compile_program`, `parts_text`, `check_parts`, `traced_program`, `TraceCache`,
`sweep`, `parse_axis`, `Axis`, `Point`.
"""
