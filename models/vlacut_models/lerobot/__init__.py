"""Policies of LeRobot's checkpoints, built from the folder alone; parameters named as in it."""
