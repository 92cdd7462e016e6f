-- Run by the PostgreSQL image when its volume is empty. POSTGRES_DB made the first one: ledger.
CREATE DATABASE airflow;
CREATE DATABASE optuna;
CREATE DATABASE mlflow;
