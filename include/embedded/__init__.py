"""The laptop stack: Airflow, MLflow and the gateway as processes of this machine, under one supervisor."""
