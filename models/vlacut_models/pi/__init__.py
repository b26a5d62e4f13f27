"""pi0 and pi05 of checkpoints, LeRobot's and openpi's: one network, and what is around it."""
