"""Simulation: the control loop over recorded bandwidths, without waiting for it."""
