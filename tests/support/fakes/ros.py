"""The few calls of ROS that the node makes, and its messages, without ROS."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

import pytest


class Stamp:
    def __init__(self, nanoseconds: int = 0) -> None:
        self.sec, self.nanosec = divmod(nanoseconds, 1_000_000_000)


class Message:
    """Any of them: it has what it is given, and a header."""

    def __init__(self, **values: Any) -> None:
        self.header = types.SimpleNamespace(stamp=Stamp())
        self.points: list[Any] = []
        self.time_from_start = Stamp()
        vars(self).update(values)


class Node:
    """A node whose topics and timer the test plays."""

    def __init__(self) -> None:
        self.heard: dict[str, Callable[[Any], None]] = {}
        self.sent: dict[str, list[Any]] = {}
        self.period_s, self.now_ns, self.depth = 0.0, 0, 0
        self.tick: Callable[[], None] = lambda: None
        self.destroyed = False
        self.ros_args: list[str] = []

    def create_subscription(self, kind: Any, topic: str, heard: Any, qos: Any) -> None:
        self.heard[topic], self.depth = heard, qos.depth

    def create_publisher(self, kind: Any, topic: str, depth: int) -> Any:
        self.sent[topic] = []
        return types.SimpleNamespace(publish=self.sent[topic].append)

    def create_timer(self, period_s: float, tick: Callable[[], None]) -> None:
        self.period_s, self.tick = period_s, tick

    def get_clock(self) -> Any:
        def now() -> Any:
            at = self.now_ns
            return types.SimpleNamespace(nanoseconds=at, to_msg=lambda: Stamp(at))

        return types.SimpleNamespace(now=now)

    def destroy_node(self) -> None:
        self.destroyed = True


def install(monkeypatch: pytest.MonkeyPatch, play: Callable[[Node], None]) -> Node:
    """Put the modules where an import finds them; `rclpy.spin` plays."""
    node, calls = Node(), types.SimpleNamespace(open=True)
    profile = types.SimpleNamespace
    modules: dict[str, dict[str, Any]] = {
        "rclpy": {
            "init": lambda args: node.ros_args.extend(args),
            "create_node": lambda name: node,
            "spin": play,
            "ok": lambda: calls.open,
            "try_shutdown": lambda: setattr(calls, "open", False),
        },
        "rclpy.qos": {
            "QoSProfile": lambda **given: profile(**given),
            "ReliabilityPolicy": profile(BEST_EFFORT="best effort"),
        },
        "rclpy.executors": {"ExternalShutdownException": KeyError},
    }
    for package, names in {
        "sensor_msgs": ("Image", "JointState"),
        "trajectory_msgs": ("JointTrajectory", "JointTrajectoryPoint"),
        "diagnostic_msgs": ("DiagnosticArray", "DiagnosticStatus", "KeyValue"),
    }.items():
        modules[package] = {}
        modules[f"{package}.msg"] = dict.fromkeys(names, Message)
    for name, has in modules.items():
        module = types.ModuleType(name)
        vars(module).update(has)
        monkeypatch.setitem(sys.modules, name, module)
    return node
