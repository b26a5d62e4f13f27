"""The build artifact: the plan and what goes with it as files, written whole or not at all.

May import: plans, pricing, hardware and what lies below. Both halves read bundles, so nothing here
needs more than numpy. Public: `Bundle`, `open_bundle`, `read_bundle`, `Manifest`, `write_manifest`,
`WholePhase`, `ModelCheck`, `EngineRecord`, `BuildRecord`, `EngineBuilder`, `MeasuredCosts`,
`read_costs`, `write_costs`, `staged_folder`, `write_file`, `write_half`, `WeightStore`, `to_json`,
`from_json`.
"""
