"""Tuning: the model families, their trials, and the ensemble that is chosen."""
