"""Shared parts of all processes' HTTP endpoints."""
