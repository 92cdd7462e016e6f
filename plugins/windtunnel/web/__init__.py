"""Pages that Airflow's API server shows at `/windtunnel`, behind Airflow's own login and rights."""
