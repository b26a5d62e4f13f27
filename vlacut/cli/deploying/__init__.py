"""Commands that serve and run bundles: for real, on paper, and over an emulated link.

May import: all that the command line may.
Public: `serve_command`, `rollout_command`, `status_command`, `run_command`, `simulate_command`,
`twin_command`.
"""
