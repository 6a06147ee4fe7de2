#!/bin/sh
# The container of PostgreSQL runs this at its very first start: the role and databases of deploy/postgresql.sql.
set -eu
psql -U postgres -v password="$OVERTONE_PASSWORD" -f /overtone/postgresql.sql
