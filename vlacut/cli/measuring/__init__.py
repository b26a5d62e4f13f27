"""Commands that measure machines and policies, and judge recorded episodes.

May import: all that the command line may.
Public: `calibrate_command`, `profile_command`, `train_command`, `precision_command`,
`actions_command`, `accept_command`.
"""
