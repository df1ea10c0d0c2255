"""Exported inference logs to curated tables: one row per scored record, and labelled training data.

The SQL below ``sql/`` is the one set of expressions; ``DuckEngine`` and ``SparkEngine`` both run it.
"""
