"""What the frames tell of the network: estimates, predictors, and the selectors of variants.

May import: wire, and the plan.
"""
