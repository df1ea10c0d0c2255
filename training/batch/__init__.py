"""Batch scoring: a table in, one partition of scores a date out, by the same library that the server uses."""
