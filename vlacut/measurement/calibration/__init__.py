"""Calibration: measures this machine through a back end, and fits the device model to it.

May import: the compiler and what lies below. Public: `Calibration`, `calibrate`.
"""
