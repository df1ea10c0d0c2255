"""From a table to a use case: what each column is, which thresholds follow, and the folder that says so."""
