"""The node: subscriptions, a timer, a trajectory and diagnostics. rclpy is imported here alone.

Sources: rclpy's documentation; trajectory_msgs/msg/JointTrajectory, whose points are due at
`time_from_start` behind its header's stamp; diagnostic_msgs/msg/DiagnosticArray.
"""

from __future__ import annotations

import importlib

# Before rclpy, whose middleware brings a libcrypto of its own that clashes with this one's.
import ssl  # noqa: F401
from collections.abc import Sequence
from functools import partial
from typing import Any

from vlacut.errors import InputError
from vlacut.integrations.openpi.policy import OpenpiPolicy
from vlacut.integrations.ros2.bridge import Bridge, Outcome
from vlacut.integrations.ros2.wiring import Wiring
from vlacut.runtime.edge.session import EdgeSession

_NAME = "vlacut"


def run_node(wiring: Wiring, session: EdgeSession, ros_args: Sequence[str] = ()) -> None:
    """Run the node until it is told to end.

    Args:
        wiring: of the node.
        session: that makes its steps.
        ros_args: what ROS is told, `--ros-args` and what follows.

    Raises InputError where rclpy or a message's package is missing, or the wiring does not fit.
    """
    rclpy = _imported("rclpy")
    policy = OpenpiPolicy(session, wiring.chunk, wiring.fields())
    rclpy.init(args=list(ros_args))
    try:
        node = rclpy.create_node(_NAME)
        try:
            Wired(rclpy, node, wiring, policy)
            rclpy.spin(node)
        except (KeyboardInterrupt, _imported("rclpy.executors").ExternalShutdownException):
            pass  # it is how one ends it
        finally:
            node.destroy_node()
    finally:
        rclpy.try_shutdown()


class Wired:
    """A node with its wiring.

    Args:
        rclpy: the module.
        node: to wire.
        wiring: of it.
        policy: that makes chunks.
    """

    def __init__(self, rclpy: Any, node: Any, wiring: Wiring, policy: OpenpiPolicy) -> None:
        self._rclpy, self._node, self._wiring = rclpy, node, wiring
        self._bridge = Bridge(policy, wiring, lambda: node.get_clock().now().nanoseconds)
        qos = _imported("rclpy.qos")
        # The newest alone, and no retry: what is late is of no use.
        newest = qos.QoSProfile(depth=1, reliability=qos.ReliabilityPolicy.BEST_EFFORT)
        for name, source in wiring.inputs.items():
            kind = _message(source.type)
            node.create_subscription(kind, source.topic, partial(self._bridge.hear, name), newest)
        trajectory = _message("trajectory_msgs/msg/JointTrajectory")
        self._commands = node.create_publisher(trajectory, wiring.topic, 1)
        self._diagnostics = None
        if wiring.diagnostics:
            array = _message("diagnostic_msgs/msg/DiagnosticArray")
            self._diagnostics = node.create_publisher(array, wiring.diagnostics, 1)
        node.create_timer(1 / wiring.rate_hz, self.tick)

    def tick(self) -> None:
        """Make a step, and send what came of it."""
        outcome = self._bridge.step(self._rclpy.ok)
        if outcome.commands is not None:
            self._commands.publish(self._trajectory(outcome))
        if self._diagnostics is not None:
            self._diagnostics.publish(self._said(outcome))

    def _trajectory(self, outcome: Outcome) -> Any:
        assert outcome.commands is not None
        point = _message("trajectory_msgs/msg/JointTrajectoryPoint")
        made = _message("trajectory_msgs/msg/JointTrajectory")()
        made.header.stamp.sec, made.header.stamp.nanosec = divmod(outcome.stamp_ns, 1_000_000_000)
        made.joint_names = list(self._wiring.names)
        for place, command in enumerate(outcome.commands):
            one = point()
            one.positions = [float(value) for value in command]
            due = round((place + 1) * self._wiring.period_s * 1e9)
            one.time_from_start.sec, one.time_from_start.nanosec = divmod(due, 1_000_000_000)
            made.points.append(one)
        return made

    def _said(self, outcome: Outcome) -> Any:
        status = _message("diagnostic_msgs/msg/DiagnosticStatus")()
        value = _message("diagnostic_msgs/msg/KeyValue")
        status.name, status.hardware_id = _NAME, self._wiring.cloud
        status.level, status.message = bytes([outcome.level]), outcome.said
        status.values = [value(key=key, value=f"{one:g}") for key, one in outcome.values.items()]
        made = _message("diagnostic_msgs/msg/DiagnosticArray")()
        made.header.stamp = self._node.get_clock().now().to_msg()
        made.status = [status]
        return made


def _message(kind: str) -> Any:
    """The class of PACKAGE/msg/NAME."""
    package, _, name = kind.split("/")
    found = getattr(_imported(f"{package}.msg"), name, None)
    if found is None:
        raise InputError(f"{kind}: {package} has no message {name}")
    return found


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"needs {name}, which ROS 2 has: source its setup.bash, and run the same Python"
        ) from error
