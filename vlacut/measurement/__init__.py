"""Measuring this machine: calibration, profiles of bundles, and a stopwatch that knows the load.

May import: the API and what lies below. Public: `profile_bundle`.
"""
