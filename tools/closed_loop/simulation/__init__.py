"""The simulated world: the arm, what stands before it, the tasks, their experts, what disturbs."""
