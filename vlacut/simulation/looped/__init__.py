"""The simulated control loop: recorded kinematics and bandwidths, in virtual time.

recorded.py has what the episodes know; course.py when inferences end; playing.py a run of the loop;
hindsight.py the best decisions, known afterwards; comparing.py controllers against each other.

May import: simulation, control and what lies below. Public: `LoopComparison`, `LoopRow`.
"""
