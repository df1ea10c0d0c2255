"""The job's side of MLflow: runs, model versions, and the names that all parts share."""
