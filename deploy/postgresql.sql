-- Once, as PostgreSQL's administrator: psql -v password=... -f deploy/postgresql.sql
-- One role, and a database each for MLflow, for its users, and for the studies of the search for settings.
\set ON_ERROR_STOP on
CREATE ROLE overtone LOGIN PASSWORD :'password';
CREATE DATABASE mlflow OWNER overtone;
CREATE DATABASE mlflow_auth OWNER overtone;
CREATE DATABASE optuna OWNER overtone;
