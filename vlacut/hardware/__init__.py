"""Hardware: devices, links, their bandwidths, and the profiles that the package ships."""

from vlacut.hardware.bandwidths import Bandwidths, link_at, parse_bandwidths
from vlacut.hardware.device import Device, device_names, load_device
from vlacut.hardware.link import Link, parse_bytes, parse_link

__all__ = [
    "Bandwidths",
    "Device",
    "Link",
    "device_names",
    "link_at",
    "load_device",
    "parse_bandwidths",
    "parse_bytes",
    "parse_link",
]
