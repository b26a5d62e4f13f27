"""The build artifact: the plan and what goes with it as files, written whole or not at all.

May import: plan, pricing, hardware and what lies below. Both halves read bundles, so nothing here
needs more than numpy.
"""
