"""Sensors of this project."""
