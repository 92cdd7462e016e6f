"""What compose.yaml's services need before they start: buckets, Airflow's tables and pools, its administrator.

Run at every start; what is there already is left as it is, except the administrator's password, which is that of .env.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path

import boto3
import yaml
from botocore.exceptions import ClientError

BUCKETS = ("windtunnel", "mlflow")


def make_buckets() -> None:
    client = boto3.client("s3")
    for name in BUCKETS:
        try:
            client.head_bucket(Bucket=name)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                raise
            client.create_bucket(Bucket=name)


def write_password() -> None:
    """For Airflow's simple auth manager. For people of your own, take the auth manager of your identity provider."""
    path = Path(os.environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"])
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.touch(mode=0o600)
    temporary.write_text(json.dumps({"admin": os.environ["AIRFLOW_ADMIN_PASSWORD"]}))
    temporary.replace(path)


def pools() -> dict[str, dict[str, object]]:
    """Those of airflow_settings.yaml, as `airflow pools import` wants them."""
    found = yaml.safe_load(Path("/opt/windtunnel/airflow_settings.yaml").read_text())["airflow"]["pools"]
    return {
        pool["pool_name"]: {
            "slots": pool["pool_slot"],
            "description": pool["pool_description"],
            "include_deferred": False,
        }
        for pool in found
    }


def main() -> None:
    make_buckets()
    write_password()
    subprocess.run(["airflow", "db", "migrate"], check=True)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(json.dumps(pools()))
        file.flush()
        subprocess.run(["airflow", "pools", "import", file.name], check=True)


if __name__ == "__main__":
    main()
