"""The control loop on the robot: commands at a rate, from chunks that take longer than a tick.

May import: runtime, plan and what lies below; never ir. Needs numpy alone.
"""
