"""The sections of `gpu_check.py`, and the page that says what they found."""
