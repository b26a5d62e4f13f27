"""Calibration of action errors: tables for the controller, from recorded episodes.

chunks.py runs the bundle on what was recorded; replay.py plays the sensors again; errors.py has
what staleness adds; fitting.py the learnt risk; binning.py the tables; calibrating.py all of it.
"""
