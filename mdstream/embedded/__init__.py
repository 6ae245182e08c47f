"""Servers as child processes that stop with their parent: for trying things out and for tests."""
