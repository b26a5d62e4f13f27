"""Devices that are not here: engines that take the time the plan predicts, and compute nothing."""
