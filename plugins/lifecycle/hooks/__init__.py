"""Clients of the services that the DAGs use: one module for each."""
