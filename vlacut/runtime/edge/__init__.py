"""The robot's session: a step within its deadline, whatever the link does, and a report of it.

May import: wire, network, engines, interpreter; nothing of the cloud. Public: `EdgeSession`,
`StepReport`, `Source`, `trace_json`.
"""
