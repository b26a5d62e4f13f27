"""A robot on ROS 2: it sends a camera and joints, and waits for trajectories.

    python ros_robot.py COUNT              (in an environment with rclpy)

Prints, as JSON, the points of each trajectory, its joints, and the level of the last diagnostics.
"""

from __future__ import annotations

import array
import json
import ssl  # noqa: F401  (before rclpy)
import sys
import time

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, JointState
from trajectory_msgs.msg import JointTrajectory

PATIENCE_S = 120.0


def main(count: int) -> None:
    rclpy.init()
    node = rclpy.create_node("robot")
    newest = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    pictures = node.create_publisher(Image, "/front", newest)
    joints = node.create_publisher(JointState, "/joints", newest)
    made: list[JointTrajectory] = []
    levels: list[int] = []
    node.create_subscription(JointTrajectory, "/arm", made.append, 10)
    node.create_subscription(
        DiagnosticArray, "/diagnostics", lambda one: levels.append(one.status[0].level[0]), 10
    )

    def send() -> None:
        now = node.get_clock().now().to_msg()
        picture = Image(encoding="rgb8", height=32, width=32, step=96)
        picture.header.stamp = now
        picture.data = array.array("B", bytes(32 * 96))
        state = JointState(name=[f"j{place}" for place in range(8)], position=[0.5] * 8)
        state.header.stamp = now
        pictures.publish(picture)
        joints.publish(state)

    node.create_timer(0.05, send)
    ends = time.monotonic() + PATIENCE_S
    while (len(made) < count or not levels) and time.monotonic() < ends:
        rclpy.spin_once(node, timeout_sec=0.1)
    said = {"points": [len(one.points) for one in made], "levels": levels[-1:]}
    said["joints"] = [list(one.joint_names) for one in made[:1]]
    said["due"] = [[p.time_from_start.nanosec for p in one.points] for one in made[:1]]
    print(json.dumps(said))
    node.destroy_node()
    rclpy.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]))
