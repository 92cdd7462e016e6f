"""`windtunnel ask`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from include.cli import gateway
from include.cli.context import chosen_family, live_settings
from include.cli.output import Output
from include.errors import UserError


def ask(arguments: argparse.Namespace, out: Output) -> int:
    """Asks the gateway one question and shows the answer with its citations."""
    family = chosen_family(arguments.family)
    if not arguments.question.strip():
        raise UserError(
            "the question is empty", hint='such as: windtunnel ask compliance_qa "Who may hold client money?"'
        )
    answer = gateway.ask(live_settings().gateway_url, family, {"question": arguments.question}, arguments.unit)
    if out.as_json:
        out.document(answer)
    else:
        show_answer(answer, out)
    return 0


def show_answer(answer: Mapping[str, Any], out: Output) -> None:
    """An answer record, for people."""
    out.line(str(answer.get("answer") or "(no answer)"), style="bold")
    for number, citation in enumerate(answer.get("citations") or [], 1):
        place = " ".join(str(citation[key]) for key in ("passage", "heading") if citation.get(key))
        out.line(f"  [{number}] {place}  (score {float(citation.get('score') or 0):.3f})")
        text = " ".join(str(citation.get("text", "")).split())
        out.line(f"      {text if len(text) <= 240 else text[:237] + '...'}", style="dim")
    facts = [f"version {answer.get('model_version')} ({answer.get('variant')})"]
    if answer.get("confidence") is not None:
        facts.append(f"confidence {float(answer['confidence']):.2f}")
    if answer.get("latency_ms") is not None:
        facts.append(f"{float(answer['latency_ms']):.0f} ms")
    out.line("  " + ", ".join(facts), style="dim")
