"""Hardware: devices, links, and the profiles that the package ships."""

from vlacut.hardware.device import Device, device_names, load_device
from vlacut.hardware.link import Framing, Link, parse_bytes, parse_link

__all__ = ["Device", "Framing", "Link", "device_names", "load_device", "parse_bytes", "parse_link"]
