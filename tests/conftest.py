"""Fixtures that several files share."""
