"""Hardware: devices, links, their bandwidths, and the profiles that the package ships."""

from vlacut.hardware.bandwidths import Bandwidths, link_at, parse_bandwidths
from vlacut.hardware.device import Cuda, Device
from vlacut.hardware.link import Framing, Link, parse_bytes, parse_link
from vlacut.hardware.profile import Mode, Profile
from vlacut.hardware.profile_file import device_names, load_device, load_profile, profile_text
from vlacut.hardware.stack import FUSIONS, KINDS, Stack

__all__ = [
    "FUSIONS",
    "KINDS",
    "Bandwidths",
    "Cuda",
    "Device",
    "Framing",
    "Link",
    "Mode",
    "Profile",
    "Stack",
    "device_names",
    "link_at",
    "load_device",
    "load_profile",
    "parse_bandwidths",
    "parse_bytes",
    "parse_link",
    "profile_text",
]
