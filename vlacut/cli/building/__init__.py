"""Commands that make, show and check bundles, and list what there is to make them of.

May import: all that the command line may.
Public: `compile_command`, `plan_command`, `opt_command`, `explain_command`, `report_command`,
`inspect_command`, `verify_command`, `check_command`, `doctor_command`, `bundle_command`,
`build_command`, `keys_command`, `sign_command`, `cache_command`, `devices_command`,
`models_command`.
"""
