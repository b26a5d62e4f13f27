"""Measuring this machine: calibration, profiles of bundles, and a stopwatch that knows the load.

May import: the compiler and what lies below.
"""
