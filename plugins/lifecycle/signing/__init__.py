"""Signatures of images, and the one place that refuses what is not signed."""
