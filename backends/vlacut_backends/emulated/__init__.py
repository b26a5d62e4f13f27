"""Emulated devices: engines that wait for the time the plan predicts, and compute nothing."""
