"""Known cases: requests that once went wrong, with what must come out. A candidate that gets one wrong does not ship.

They stand in `cases.jsonl` in the family's folder, one JSON object per line, and are reviewed like code:

    {"id": "late-filing", "inputs": {"question": "..."}, "truth": {"citations": ["AML-3.2"]}, "metric": "hit_at_1",
     "at_least": 1.0, "why": "cited the repealed rule", "added_by": "...", "added_at": "2026-11-02"}

The runtime labels its answer against `truth`, as it labels live traffic; `metric` must be at least `at_least`, or at
most `at_most`. A refusal or a failure is wrong in either case.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from include.errors import DataError, clip
from include.evaluation.asking import Answer, Outcome, ask
from include.families.contract import ModelRuntime
from include.store.objects import ObjectStore

CASES_FILE = "cases.jsonl"
MAX_BYTES, MAX_CASES = 8 << 20, 5_000
_Finite = Annotated[float, Field(allow_inf_nan=False)]


class Case(BaseModel):
    """A request and what must come out; see the module."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    inputs: Annotated[dict[str, Any], Field(min_length=1)]
    truth: Annotated[dict[str, Any], Field(min_length=1)]
    metric: Annotated[str, Field(min_length=1, max_length=64)]
    at_least: _Finite | None = None
    at_most: _Finite | None = None
    why: Annotated[str, Field(max_length=1000)] = ""
    added_by: Annotated[str, Field(max_length=200)] = ""
    added_at: Annotated[str, Field(max_length=40)] = ""

    @model_validator(mode="after")
    def _one_limit(self) -> Case:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("give either `at_least` or `at_most`, and not both")
        return self

    def holds(self, value: float) -> bool:
        """Whether a value of the metric is good enough."""
        return value >= self.at_least if self.at_least is not None else value <= cast("float", self.at_most)

    @property
    def asks(self) -> str:
        """Such as `hit_at_1 >= 1`."""
        return f"{self.metric} " + (f">= {self.at_least:g}" if self.at_least is not None else f"<= {self.at_most:g}")


def parse_cases(data: bytes, where: str) -> list[Case]:
    """The cases in the bytes of a file.

    Raises:
        DataError: It is too large, or a line is no case; the error names the line.
    """
    if len(data) > MAX_BYTES:
        raise DataError(f"{len(data)} bytes are more than the {MAX_BYTES} that are read", where=where)
    cases: list[Case] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        case = _parse(line, f"{where}:{number}")
        if case.id in seen:
            raise DataError(f"the id {case.id!r} stands on line {seen[case.id]} already", where=f"{where}:{number}")
        seen[case.id] = number
        cases.append(case)
        if len(cases) > MAX_CASES:
            raise DataError(f"there are more than {MAX_CASES} cases", where=where, hint="keep those that matter")
    return cases


def read_cases(path: Path) -> list[Case]:
    """The cases in a file; none where there is no file. Raises `DataError`."""
    return parse_cases(_bytes(path), str(path))


def add_case(path: Path, case: Case) -> None:
    """Adds a case to a file, which it makes where there is none; nobody sees half of it.

    Raises:
        DataError: The file is broken, or has a case of this id.
    """
    with _alone(path.parent):
        before = _bytes(path)
        known = parse_cases(before, str(path))
        if case.id in {other.id for other in known}:
            raise DataError(f"there is a case {case.id!r} already", where=str(path), hint="choose another id")
        line = json.dumps(case.model_dump(exclude_none=True, exclude_defaults=True), allow_nan=False)
        text = before + (b"" if not before or before.endswith(b"\n") else b"\n") + line.encode() + b"\n"
        parse_cases(text, str(path))
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.write_bytes(text)
        os.replace(draft, path)


def pin_cases(store: ObjectStore, family: str, path: Path) -> str | None:
    """Puts the file into the object store under its content; returns its key, None where there are no cases.

    A run judges by the cases that there were when it began, wherever its steps run.
    """
    data = _bytes(path)
    if not parse_cases(data, str(path)):
        return None
    key = f"evaluations/{family}/cases/{hashlib.sha256(data).hexdigest()}.jsonl"
    if not store.exists(key):
        store.put(key, data)
    return key


def pinned_cases(store: ObjectStore, key: str) -> list[Case]:
    """The cases under a key of `pin_cases`. Raises `DataError` where they are not what was pinned."""
    data = store.get(key)
    if hashlib.sha256(data).hexdigest() not in key:
        raise DataError("the known cases were changed after the run began", where=key, hint="start another run")
    return parse_cases(data, key)


def check_cases(runtime: ModelRuntime, cases: Sequence[Case]) -> dict[str, Any]:
    """Asks every case. Returns `n`, and `failed`: {`id`, `asks`, `found`, `why`} of each that came out wrong."""
    answers = ask(runtime, [case.inputs for case in cases])
    wrong = (_wrong(runtime, case, answer) for case, answer in zip(cases, answers, strict=True))
    return {"n": len(cases), "failed": [record for record in wrong if record is not None]}


def _wrong(runtime: ModelRuntime, case: Case, answer: Answer) -> dict[str, Any] | None:
    record = {"id": case.id, "asks": case.asks, "why": case.why}
    if answer.outcome is not Outcome.ANSWERED:
        return {**record, "found": f"{answer.outcome.value}: {answer.why}"}
    try:
        labels = runtime.label(answer.record, case.truth)
    except Exception as error:  # the truth was written by hand and meets family code that may raise anything on it
        raise DataError(
            f"case {case.id!r}: the truth does not fit the family: {clip(error, 200)}",
            where=CASES_FILE,
            hint="mend the case",
        ) from error
    if case.metric not in labels:
        raise DataError(
            f"case {case.id!r} asks for {case.metric!r}",
            where=CASES_FILE,
            hint=f"an answer is labelled with: {', '.join(sorted(labels))}",
        )
    value = float(labels[case.metric])
    return None if math.isfinite(value) and case.holds(value) else {**record, "found": f"{case.metric} is {value:g}"}


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two who add a case at once do so one after the other."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise DataError(f"the known cases cannot be read: {error.strerror}", where=str(path)) from error


def _parse(line: bytes, where: str) -> Case:
    try:
        return Case.model_validate(json.loads(line.decode("utf-8"), parse_constant=_no_number))
    except UnicodeDecodeError as error:
        raise DataError(f"the line is not UTF-8 (byte {error.start})", where=where) from error
    except ValidationError as error:
        raise DataError(f"no case: {'; '.join(_problems(error))}", where=where, hint="see `windtunnel cases`") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"the line is not JSON: {clip(error, 200)}", where=where) from None


def _problems(error: ValidationError) -> Iterable[str]:
    for item in error.errors(include_url=False, include_input=False)[:3]:
        yield f"{'.'.join(map(str, item['loc'])) or 'it'}: {item['msg']}"


def _no_number(text: str) -> Mapping[str, Any]:
    raise ValueError(f"{text} is no number of JSON")
