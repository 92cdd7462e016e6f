"""The Airflow side of Windtunnel: operators, sensors and the tasks that the DAG files put together."""
