"""Run by Python at its start where this folder is on PYTHONPATH."""

import fake_device

fake_device.install()
