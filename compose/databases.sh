#!/bin/bash
# Run once by the PostgreSQL image, over its socket, when its data folder is new: a database and its owner
# for Airflow and for MLflow.
set -euo pipefail
for name in airflow mlflow; do
  # The password is read by psql itself: a command line could be seen by others.
  psql --no-psqlrc --set=ON_ERROR_STOP=1 --username=postgres --set=name="$name" <<'SQL'
\set password `cat /run/lifecycle/:name`
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
SQL
done
