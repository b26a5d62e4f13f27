"""Helpers of the tests: programs, deployments, fakes, and what several test files borrow."""
