"""Signals of controllers: joints, executed commands, the chunk in force, entropy, a learnt risk.

May import: situation and ways. Public: `MotionMeter`, `MotionScale`, `RiskModel`, `RiskSignals`,
`MotionUnits`, `SensitivityMeter`, `announced`, `entropy_of`.
"""
