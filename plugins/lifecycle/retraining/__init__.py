"""What the nightly retraining does in Airflow: copy the export, judge, decide, tell."""
