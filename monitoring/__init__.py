"""Dashboards and alerts, and the command that renders those of a use case."""
