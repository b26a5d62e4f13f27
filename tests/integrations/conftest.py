"""Fixtures that several files of this folder share."""

from support.lerobot_plugin import made, plugin

__all__ = ["made", "plugin"]
