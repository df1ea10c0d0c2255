#!/bin/bash
# The part of the official image's entry point that docker-compose.yaml relies on.
set -euo pipefail
if [ "$(id -u)" = 0 ]; then exec setpriv --reuid=999 --regid=999 --clear-groups "$0"; fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  # shellcheck disable=SC2086
  initdb --username=postgres --pwfile="$POSTGRES_PASSWORD_FILE" $POSTGRES_INITDB_ARGS
  echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
  pg_ctl --wait --options="-c listen_addresses= -c unix_socket_directories=/tmp" start
  for script in /docker-entrypoint-initdb.d/*.sh; do PGHOST=/tmp "$script"; done
  pg_ctl --wait --mode=fast stop
fi
exec postgres -c listen_addresses='*' -c unix_socket_directories=/tmp
