"""Hardware: the two machines, the link between them, and the profiles that the package ships.

May import: tensor, errors. Public: those of `__all__`.
"""

from vlacut.hardware.bandwidths import Bandwidths, link_at, parse_bandwidths
from vlacut.hardware.device import Cuda, Device
from vlacut.hardware.link import Framing, Link, parse_bytes, parse_link, parse_seconds
from vlacut.hardware.nvpmodel import with_power_modes
from vlacut.hardware.power import Power
from vlacut.hardware.profile import Mode, Profile
from vlacut.hardware.profile_file import device_names, load_device, load_profile, profile_text
from vlacut.hardware.side import Side
from vlacut.hardware.stack import FUSIONS, KINDS, Stack
from vlacut.hardware.trace import Trace, read_recordings

__all__ = [
    "FUSIONS",
    "KINDS",
    "Bandwidths",
    "Cuda",
    "Device",
    "Framing",
    "Link",
    "Mode",
    "Power",
    "Profile",
    "Side",
    "Stack",
    "Trace",
    "device_names",
    "link_at",
    "load_device",
    "load_profile",
    "parse_bandwidths",
    "parse_bytes",
    "parse_link",
    "parse_seconds",
    "profile_text",
    "read_recordings",
    "with_power_modes",
]
