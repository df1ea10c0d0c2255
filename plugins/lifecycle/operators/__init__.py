"""Operators of this project; each builds on a provider's operator."""
