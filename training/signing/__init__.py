"""Signatures of bundles and images: the keys, and the format that bundles are signed in."""
