"""Pods: where steps run. A supervised local process here; Kubernetes' side lives with the Airflow operators."""
