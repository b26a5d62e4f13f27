"""What controllers go by: the joints, the chunk in force, how unsure the policy is, a learnt risk.

May import: situation and ways. Public: `MotionMeter`, `MotionScale`, `RiskModel`, `RiskSignals`,
`announced`, `entropy_of`.
"""
