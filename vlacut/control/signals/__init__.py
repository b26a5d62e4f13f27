"""What controllers go by: the joints, the chunk in force, how unsure the policy is, a learnt risk.

May import: situation and ways.
"""
