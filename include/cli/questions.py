"""`windtunnel ask`: asks what serves, with the inputs that its model declares."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from include.cli import gateway
from include.cli.context import chosen_family, live_settings
from include.cli.output import Output, show
from include.errors import UserError
from include.settings import Settings

#: What the gateway says of an answer, beside what the model said.
_ENVELOPE = frozenset(
    {
        "request_id",
        "family",
        "model_version",
        "model_digest",
        "variant",
        "generation",
        "latency_ms",
        "confidence",
        "why",
    }
)
_TRUTHS = {"true": True, "yes": True, "false": False, "no": False}


def ask(arguments: argparse.Namespace, out: Output) -> int:
    """Asks the gateway once and shows the answer, beside the truth where an example is asked."""
    family = chosen_family(arguments.family)
    if arguments.inputs and not any(text.strip() for text in arguments.inputs):
        raise UserError("the question is empty", hint=f"`windtunnel ask {family}` tells what it takes")
    settings = live_settings()
    declared = gateway.inputs(settings.gateway_url, family)
    given: dict[str, Any] = {}
    truth: Mapping[str, Any] | None = None
    if arguments.example is not None:
        given, truth = _example(settings, family, arguments.example)
    if arguments.file is not None:
        given |= _read(arguments.file)
    given |= read_inputs(arguments.inputs, declared)
    if not given:
        raise UserError(f"nothing was asked: {_takes(family, declared)}", hint=_how(family, declared))
    answer = gateway.ask(settings.gateway_url, family, given, arguments.unit)
    if out.as_json:
        out.document(answer if truth is None else {**answer, "inputs": given, "truth": truth})
        return 0
    if truth is not None:
        show_inputs(given, out)
    show_answer(answer, out, truth)
    return 0


def read_inputs(texts: Sequence[str], declared: Mapping[str, str]) -> dict[str, Any]:
    """The values that the command line gives: `NAME=VALUE`, or the value alone where there is one input.

    Args:
        declared: Input -> datatype of the Open Inference Protocol.

    Raises:
        UserError: A name is unknown, or a value is not of its datatype.
    """
    only = next(iter(declared)) if len(declared) == 1 else None
    found: dict[str, Any] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if only is not None and not (separator and name == only):
            name, value = only, text
        elif not separator or name not in declared:
            takes = ", ".join(f"{known} ({kind})" for known, kind in declared.items())
            raise UserError(f"{text[:100]!r} gives no input of this model", hint=f"NAME=VALUE, of: {takes}")
        if name in found:
            raise UserError(f"{name} is given twice", hint="put a question of several words into quotes")
        found[name] = _value(name, declared[name], value)
    return found


def show_inputs(inputs: Mapping[str, Any], out: Output) -> None:
    """What was asked, for people."""
    shown = [str(value) if len(inputs) == 1 else f"{name} {show(value)}" for name, value in inputs.items()]
    out.line(f"  {', '.join(shown)}")


def show_answer(answer: Mapping[str, Any], out: Output, truth: Mapping[str, Any] | None = None) -> None:
    """An answer record, for people; where the truth has a value of the same name, beside that."""
    if "answer" in answer:
        _show_text(answer, out)
    else:
        for name in (name for name in answer if name not in _ENVELOPE):
            was = f"  (was {show(truth[name])})" if truth and name in truth else ""
            out.line(f"{name} {show(answer[name])}{was}", style="bold")
    if isinstance(why := answer.get("why"), Mapping):
        out.line(f"  because of {_drivers(why)}", style="dim")
    facts = [f"version {answer.get('model_version')} ({answer.get('variant')})"]
    if answer.get("confidence") is not None:
        facts.append(f"confidence {float(answer['confidence']):.2f}")
    if answer.get("latency_ms") is not None:
        facts.append(f"{float(answer['latency_ms']):.0f} ms")
    out.line("  " + ", ".join(facts), style="dim")


def _show_text(answer: Mapping[str, Any], out: Output) -> None:
    """An answer in words, with its citations."""
    out.line(str(answer["answer"] or "(no answer)"), style="bold")
    for number, citation in enumerate(answer.get("citations") or [], 1):
        place = " ".join(str(citation[key]) for key in ("passage", "heading") if citation.get(key))
        out.line(f"  [{number}] {place}  (score {float(citation.get('score') or 0):.3f})")
        text = " ".join(str(citation.get("text", "")).split())
        out.line(f"      {text if len(text) <= 240 else text[:237] + '...'}", style="dim")


def _drivers(why: Mapping[str, Any]) -> str:
    """What drove the answer: the parts of its score, and the words that weighed most."""
    parts = ", ".join(f"{name} {float(share):.2f}" for name, share in (why.get("parts") or {}).items())
    terms = ", ".join(f"{term} {float(weight):.2f}" for term, weight in (why.get("terms") or {}).items())
    return f"{parts} ({terms})" if terms else parts


def _value(name: str, datatype: str, text: str) -> Any:
    if datatype == "BYTES":
        return text
    try:
        if text.lstrip().startswith("["):  # an input that is more than one number
            return json.loads(text)
        if datatype == "BOOL":
            return _TRUTHS[text.strip().lower()]
        return float(text) if datatype.startswith("FP") else int(text)
    except (ValueError, KeyError):
        hint = "true or false" if datatype == "BOOL" else "a number" if datatype.startswith("FP") else "a whole number"
        raise UserError(f"{name}: {text[:100]!r} is no {datatype}", where=name, hint=f"give {hint}") from None


def _read(file: str) -> dict[str, Any]:
    """The inputs in a file of JSON, or on the standard input (`-`)."""
    try:
        value = json.loads(sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read the inputs: {error.strerror}", where=file, hint="check the path") from error
    except ValueError as error:
        raise UserError(f"the inputs are not JSON: {error}", where=file, hint='such as {"hour": 8}') from error
    if not isinstance(value, dict):
        raise UserError("the inputs are no JSON object", where=file, hint='such as {"hour": 8}')
    return value


def _example(settings: Settings, family: str, wanted: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The inputs and the truth of an example of the newest dataset version.

    Args:
        wanted: Its id; "": the first of the test split.

    Raises:
        UserError: There is no such example, or no dataset version yet.
    """
    from include.data.catalogue import Catalogue
    from include.data.datasets import open_dataset
    from include.families.contract import load_code
    from include.spec import load_family
    from include.store.database import open_database

    versions = Catalogue(open_database(settings.database_url)).versions(family)
    if not versions:
        raise UserError(f"{family} has no dataset version yet", hint=f"windtunnel train {family}")
    version = versions[0].version
    dataset, code = open_dataset(settings, family, version), load_code(load_family(family).code)
    for identity, inputs, truth in code.requests(dataset, "test"):
        if wanted in ("", identity):
            return dict(inputs), dict(truth)
    raise UserError(
        f"the test split of {family} {version} has no example {wanted!r}", hint="without an id: the first one"
    )


def _takes(family: str, declared: Mapping[str, str]) -> str:
    return f"{family} takes " + ", ".join(f"{name} ({kind})" for name, kind in declared.items())


def _how(family: str, declared: Mapping[str, str]) -> str:
    given = '"..."' if len(declared) == 1 else " ".join(f"{name}=..." for name in [*declared][:2]) + " ..."
    return f"windtunnel ask {family} {given}, or --file inputs.json, or --example"
