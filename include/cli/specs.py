"""`windtunnel validate`: every family's spec in every profile, and airflow_settings.yaml."""

from __future__ import annotations

import argparse
from typing import Any

from include.cli.output import Output
from include.embedded.airflow_settings import SETTINGS_FILE, SettingsError, read_settings
from include.spec import SpecError, all_family_names, family_folder, load_any_family, profile_names

EXIT_WRONG = 2


def validate(arguments: argparse.Namespace, out: Output) -> int:
    """Checks everything that a person writes by hand; 2 where anything is wrong."""
    records = [check_family(name) for name in arguments.families or all_family_names()]
    if not arguments.families:
        records.append(_check_settings())
    if out.as_json:
        out.document({"ok": all(record["ok"] for record in records), "checked": records})
    for record in records if not out.as_json else []:
        if record["ok"]:
            profiles = f" ({', '.join(record['profiles'])})" if record["profiles"] else ""
            out.line(f"ok    {record['name']}{profiles}")
        else:
            out.line(f"WRONG {record['name']}\n{record['error']}", style="red")
    if not records:
        out.line("there is no family under include/families")
    return 0 if all(record["ok"] for record in records) else EXIT_WRONG


def check_family(name: str) -> dict[str, Any]:
    """The outcome for one family: every profile is loaded; the first that fails is told."""
    profiles: list[str] = []
    try:
        for profile in profile_names(family_folder(name) / "family.yaml"):
            load_any_family(name, profile)
            profiles.append(profile)
    except SpecError as error:
        problems = error.fields.get("problems", [])
        return {"name": name, "ok": False, "profiles": profiles, "error": str(error), "problems": problems}
    return {"name": name, "ok": True, "profiles": profiles, "error": None, "problems": []}


def _check_settings() -> dict[str, Any]:
    name = SETTINGS_FILE.name
    try:
        read_settings()
    except SettingsError as error:
        problems = error.fields.get("problems", [])
        return {"name": name, "ok": False, "profiles": [], "error": str(error), "problems": problems}
    return {"name": name, "ok": True, "profiles": [], "error": None, "problems": []}
