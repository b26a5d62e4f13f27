"""Calibration of action errors: tables for the controller, from recorded episodes.

chunks.py runs the bundle on what was recorded; fitting.py has the learnt risk, binning.py the
quantiles by bin, calibrating.py all of it. precision.py has the lookup from sensitivity to
precision, drafts.py how many drafts are right.

May import: the API, control and what lies below. Public: `calibrate_actions`,
`calibrate_drafts`, `calibrate_precision`.
"""
