"""Calibration: measures this machine through a back end, and fits the device model to it."""
