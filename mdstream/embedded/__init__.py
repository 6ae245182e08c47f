"""Servers as child processes that stop with their parent, for trials and tests."""
