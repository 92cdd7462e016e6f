"""Registers Windtunnel with Airflow: its pages, and links from the nav bar to what runs beside it."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from airflow.plugins_manager import AirflowPlugin
from airflow.sdk.configuration import conf

from plugins.windtunnel.web.mount import PREFIX, LazyApp, pages


def _views() -> list[dict[str, str]]:
    """External views: our own pages, and those services whose address this installation was told."""
    releases = f"{urlsplit(str(conf.get('api', 'base_url', fallback='') or '')).path.rstrip('/')}{PREFIX}/releases"
    own = [
        {"name": "Releases", "href": releases, "destination": "nav", "url_route": "windtunnel-all-releases"},
        {
            "name": "Releases",
            "href": f"{releases}/{{DAG_ID}}",
            "destination": "dag",
            "url_route": "windtunnel-releases",
        },
    ]
    addresses = {"MLflow": os.environ.get("WINDTUNNEL_MLFLOW_UI"), "Gateway": os.environ.get("WINDTUNNEL_GATEWAY_URL")}
    paths = {"MLflow": "", "Gateway": "/v1/routes"}
    return own + [
        {"name": name, "href": f"{url}{paths[name]}", "destination": "nav", "url_route": f"windtunnel-{name.lower()}"}
        for name, url in addresses.items()
        if url
    ]


class WindtunnelPlugin(AirflowPlugin):
    """Pages behind Airflow's login, and links to MLflow and the gateway in Airflow's own navigation."""

    name = "windtunnel"
    external_views = _views()
    fastapi_apps = [{"name": "windtunnel", "app": LazyApp(pages), "url_prefix": PREFIX}]
