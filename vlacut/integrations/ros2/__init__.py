"""A node of ROS 2: topics are inputs, a chunk is a joint trajectory, and diagnostics say why.

May import: integrations, control, runtime, errors; rclpy in `node` alone, which the user's ROS has.
Public: `Wiring`, `read_wiring`, `Bridge`, `array_of`, `run_node`.
"""
