"""The second half of the page: how the model was made, from what data, and what its parts are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from include.dossier import words
from include.dossier.html import Html, code, element, facts, folded, joined, link, paragraph, section, short, table

_Record = Mapping[str, Any]

#: More rows than this are folded away.
_SHOWN = 12
_STATES = {"whole": "good", "unproven": "muted", "altered": "bad", "missing": "bad", "unreadable": "warn"}


def origin_sections(found: _Record, links: Callable[[str], str] | None) -> list[Html]:
    """Version and package, training, data, lineage."""
    return [_version(found), _making(found), _data(found["data"]), _lineage(found["lineage"], links)]


def state(stored: _Record) -> Html:
    """What is known of a stored object."""
    shown = element("span", stored["state"], class_=_STATES[stored["state"]])
    return joined([shown, f": {stored['why']}" if stored["why"] else ""])


def _version(found: _Record) -> Html:
    version, package = found["version"], found["package"]
    size = (
        f"{package['bytes'] / 1e6:.1f} MB in {words.plural(len(package['files']), 'file')}"
        if package["bytes"]
        else None
    )
    signature = version["signature"] or {}
    spoken = [
        f"{side}: {', '.join(f'{name} {kind}' for name, kind in signature[side].items())}"
        for side in ("inputs", "outputs")
        if signature.get(side)
    ]
    meaning = "; ".join(f"{name}: {said}" for name, said in (version["meaning"] or {}).items())
    rows = [
        (stored["name"], state(stored), code(stored["key"]), short(stored["digest"]))
        for stored in [package["stored"], *found["documents"], found["data"]["manifest"]]
    ]
    read = (
        ""
        if package["verified"]
        else " The package's list of files was held against its digest, the files were not read."
    )
    return section(
        "version",
        "Version",
        facts(
            [
                ("number", f"{version['change']}: {version['change_why']}" if version["change"] else None),
                (
                    "registered",
                    f"{words.moment(version['registered_at'])} UTC by {version['creator'] or 'nobody known'}",
                ),
                ("may be released", "yes" if version["releasable"] else "no"),
                ("from a backfill", "yes" if version["backfill"] else None),
                ("MLflow version", version["mlflow_version"]),
                ("model digest", code(found["subject"]["digest"])),
                ("size", size),
                ("goes in, comes out", "; ".join(spoken)),
                ("what it means", meaning),
                ("code version", code(version["code_version"]) if version["code_version"] else None),
                ("cost", found["cost"]["price"] if found["cost"] else None),
            ]
        ),
        table("What it rests on, and whether that is what was recorded", ["what", "state", "key", "digest"], rows),
        paragraph(f"A state is as of now.{read}", "muted"),
    )


def _making(found: _Record) -> Html:
    training, search = found["training"], found["search"]
    if training is None or search is None:
        return section("making", "Training", paragraph("A baseline is not trained.", "muted"))
    parameters = [f"{name} {words.number(value)}" for name, value in (search["hyperparameters"] or {}).items()]
    spent = search["spent"] or {}
    confirmed = search["confirmed"] or {}
    repeated = [
        (f"trial {row['trial']}", words.number(row.get("mean")), words.number(row.get("spread")), row.get("n"))
        for row in confirmed.get("repeated") or []
    ]
    failures = [
        (words.moment(failure["at"]), failure["ending"].replace("_", " "), failure["action"], failure["text"])
        for failure in training["failures"]
    ]
    resumed = training["resumed_from_step"]
    return section(
        "making",
        "Training",
        facts(
            [
                ("run", training["run"] or "nobody wrote it down"),
                ("MLflow run", training["mlflow_run"]),
                ("steps", words.number(training["steps"]) if training["steps"] is not None else None),
                ("time in steps", words.span(training["seconds"]) if training["seconds"] else None),
                ("went on from step", words.number(resumed) if resumed is not None else None),
                ("work lost", words.lost(training["work_lost"])),
                ("on validation", ", ".join(f"{n} {words.number(v)}" for n, v in (training["metrics"] or {}).items())),
                ("study", code(f"windtunnel study {search['study']}") if search["study"] else None),
                ("trials", words.number(search["trials"]) if search["trials"] is not None else None),
                ("search ended", search["stopped"]),
                ("search took", words.span(60 * spent["minutes"]) if spent.get("minutes") else None),
                (
                    "best in the study",
                    f"{search['metric']} {words.number(search['value'])}" if search["value"] else None,
                ),
                ("hyperparameters", ", ".join(parameters)),
                ("seed", search["seed"]),
                ("changed for this round", ", ".join(f"{n} {v}" for n, v in (search["adjusted"] or {}).items())),
                ("repeats decided", confirmed.get("why")),
            ]
        ),
        table(
            "Best trials trained again with other seeds", ["trial", "mean", "spread", "n"], repeated, numbers=(1, 2, 3)
        ),
        table("Tries that ended badly", ["when (UTC)", "how", "then", "what it was"], failures),
    )


def _data(data: _Record) -> Html:
    totals = data.get("totals") or {}
    change = data.get("change") or {}
    recalls = [
        (
            recall["what"],
            "active" if recall["active"] else "lifted",
            recall["why"],
            recall["by"],
            words.moment(recall["at"]),
        )
        for recall in data["recalls"]
    ]
    sources = [
        (name, source["role"], source["deliveries"], words.number(source["rows_clean"]), source["newest"])
        for name, source in data["sources"].items()
    ]
    held = sorted((totals.get("reasons") or {}).items(), key=lambda item: (-item[1], item[0]))
    tables = [
        (name, words.number(one["rows"]), ", ".join(f"{mark} {count:,}" for mark, count in one["splits"].items()),
         short(one["digest"]))
        for name, one in (data.get("rows") or {}).items()
    ]  # fmt: skip
    steps = " → ".join(step["name"] for step in data.get("transformations") or [])
    return section(
        "data",
        "Data",
        facts(
            [
                ("dataset version", data["version"]),
                ("digest", code(data["digest"]) if data["digest"] else None),
                ("manifest", state(data["manifest"])),
                ("published", f"{words.moment(data['published_at'])} UTC" if data["published_at"] else None),
                ("number", f"{change['level']}: {change['reason']}" if change else None),
                ("split", data.get("split")),
                ("suite", data.get("suite")),
                ("went through", steps),
                ("rows in", words.number(totals.get("rows_in")) if totals else None),
                ("clean", words.number(totals.get("rows_clean")) if totals else None),
                ("in quarantine", words.number(totals.get("rows_quarantined")) if totals else None),
                ("repeated", words.number(totals.get("rows_duplicate")) if totals else None),
            ]
        ),
        table("Recalls", ["what", "state", "why", "by", "when (UTC)"], recalls),
        table("Tables", ["table", "rows", "divided", "digest"], tables, numbers=(1,)),
        table("Sources", ["source", "role", "deliveries", "clean rows", "newest"], sources, numbers=(2, 3)),
        table(
            "Why rows are in quarantine",
            ["reason", "rows"],
            [(name, f"{count:,}") for name, count in held],
            numbers=(1,),
        ),
        _deliveries(data["deliveries"]),
    )


def _deliveries(deliveries: Sequence[_Record]) -> Html:
    rows = [
        (
            one["delivery"],
            one["source"],
            one["delivered_on"],
            words.number(one["rows_in"]),
            words.number(one["rows_clean"]),
            words.number(one["rows_quarantined"]),
            ", ".join(f"{table} {words.percent(rate, 1)}" for table, rate in one["valid_rate"].items()) or "-",
            joined([one["suite"], " ", short(one["suite_digest"][:8])]) if one["suite_digest"] else one["suite"],
            state(one["check"]),
        )
        for one in reversed(deliveries)
    ]
    columns = ["delivery", "source", "of", "rows in", "clean", "quarantined", "valid", "suite", "check"]
    shown = table("Deliveries and how they were validated, the newest first", columns, rows, numbers=(3, 4, 5))
    return folded(words.plural(len(rows), "delivery", "deliveries"), shown) if len(rows) > _SHOWN else shown


def _lineage(lineage: _Record, links: Callable[[str], str] | None) -> Html:
    up, down = lineage["up"], lineage["down"]

    def versions(names: Sequence[str]) -> Html:
        return joined((link(links(name), name) if links else name for name in names), ", ")

    origins = [f"{one['role']} {one.get('version') or one['digest'][:12]}" for one in up["models"]]
    learned = [one["version"] for one in down["models"]]
    generations = down["generations"]
    return section(
        "lineage",
        "From what, into what",
        facts(
            [
                ("sources", ", ".join(up["sources"])),
                ("deliveries", words.number(up["deliveries"])),
                ("dataset", code(up["dataset"])),
                ("models it came from", ", ".join(origins)),
                ("models that came from it", versions(learned) if learned else None),
                ("evaluated against it", versions(down["compared_with"]) if down["compared_with"] else None),
                ("released against it", versions(down["rollouts_against"]) if down["rollouts_against"] else None),
                (
                    "in the routing table",
                    f"{len(generations)} generations, the last {generations[-1]}" if generations else "never",
                ),
            ]
        ),
    )
