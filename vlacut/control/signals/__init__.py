"""Signals of controllers: the joints, the chunk in force, the policy's entropy, a learnt risk.

May import: situation and ways. Public: `MotionMeter`, `MotionScale`, `RiskModel`, `RiskSignals`,
`announced`, `entropy_of`.
"""
