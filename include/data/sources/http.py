"""Files behind http(s): asked for only when they changed (ETag, Last-Modified), with patience, under a size limit."""

from __future__ import annotations

import email.utils
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from include.data.sources.credentials import Credentials, SourceError
from include.data.sources.files import date_in, slug
from include.data.sources.place import Offer, Window
from include.errors import DataError, UserError
from include.families.contract import Delivery
from include.spec.sources import SourceSpec

ATTEMPTS = 5
LONGEST_WAIT = 60.0  # seconds; a server that asks for more is asked again in another run
TIMEOUT = httpx.Timeout(30.0, connect=10.0)
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_DATE = "{date}"


class HttpFiles:
    """Satisfies `Place` for one file, or for one file per day where the URL holds `{date}`.

    Args:
        folder: Where what was fetched lies for a moment.
        sleep: Waits between attempts.
    """

    def __init__(
        self, spec: SourceSpec, credentials: Credentials, folder: Path, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._spec = spec
        self._credentials = credentials
        self._folder = folder
        self._sleep = sleep
        headers = credentials.extra.get("headers")
        token = credentials.extra.get("token")
        self._secret = bool(credentials.password or headers or token)
        self._client = httpx.Client(
            timeout=TIMEOUT,
            auth=(credentials.login, credentials.password) if credentials.password else None,
            headers={**(headers or {}), **({"Authorization": f"Bearer {token}"} if token else {})},
            follow_redirects=not self._secret,  # a secret goes to the declared address and nowhere else
        )

    def offers(self, window: Window) -> Iterator[Offer]:
        if _DATE not in self._spec.url:
            name = slug(urlsplit(self._spec.url).path.rpartition("/")[2])
            offer = self._ask(name, self._spec.url, None, window)
            if offer is None:
                raise DataError("there is nothing", where=self._where(self._spec.url), hint="check the URL")
            yield offer
            return
        for day in self._days(window):
            offer = self._ask(day.isoformat(), self._spec.url.replace(_DATE, day.isoformat()), day, window)
            if offer is not None:
                yield offer
                if offer.what:
                    offer.what.unlink(missing_ok=True)

    @contextmanager
    def fetch(self, offer: Offer) -> Iterator[Delivery]:
        path = offer.what
        if path is None:  # unchanged at the server, and lost here
            url = self._spec.url.replace(_DATE, offer.delivered_on.isoformat())
            again = self._get(url, offer.name, {})
            if again is None or again[0] is None:
                raise DataError("there is nothing any more", where=self._where(url), hint="check the URL")
            path = again[0]
        yield Delivery(offer.name, offer.delivered_on, (path,))

    def _days(self, window: Window) -> Iterator[date]:
        """From the watermark on, its own day included (it may have been incomplete), or from the interval's start."""
        starts = [day for day in (window.watermark, window.since) if day]
        day = min(starts) if window.watermark else (self._spec.start or window.today)
        end = min(window.until or window.today + timedelta(1), window.today + timedelta(1))
        while day < end:
            yield day
            day += timedelta(1)

    def _ask(self, name: str, url: str, day: date | None, window: Window) -> Offer | None:
        """What the server has under `url`; None for nothing."""
        seen = list(window.tags.get(name, {}))
        found = self._get(url, name, _conditions(seen[-1]) if seen else {})
        if found is None:
            return None
        path, tag = found
        tag = tag or (seen[-1] if seen and path is None else "")
        changed = email.utils.parsedate_to_datetime(tag.partition("\n")[2]).date() if tag.partition("\n")[2] else None
        belongs = day or self._spec.delivered_on or date_in(urlsplit(url).path) or changed or window.today
        return Offer(name, belongs, tag, path)

    def _get(self, url: str, name: str, headers: dict[str, str]) -> tuple[Path | None, str] | None:
        """(file, tag); no file where it is unchanged; None where there is nothing."""
        last = "no answer"
        for attempt in range(ATTEMPTS):
            try:
                with self._client.stream("GET", url, headers=headers) as answer:
                    if answer.status_code not in _AGAIN:
                        return self._take(answer, url, name)
                    last, wait = f"status {answer.status_code}", _asked_wait(answer)
            except httpx.HTTPError as error:
                last, wait = self._credentials.scrub(str(error) or type(error).__name__), None
            if wait is not None and wait > LONGEST_WAIT:
                raise SourceError(f"asks to come back in {wait:.0f} s", where=self._where(url), hint="run again later")
            if attempt + 1 < ATTEMPTS:
                self._sleep(wait if wait is not None else min(LONGEST_WAIT, 2**attempt * random.uniform(0.5, 1.0)))
        raise SourceError(
            f"cannot be read after {ATTEMPTS} attempts: {last}", where=self._where(url), hint="check the server"
        )

    def _take(self, answer: httpx.Response, url: str, name: str) -> tuple[Path | None, str] | None:
        where = self._where(url)
        if answer.status_code == httpx.codes.NOT_MODIFIED:
            return None, ""
        if answer.status_code in (httpx.codes.NOT_FOUND, httpx.codes.GONE):
            return None
        if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            hint = "check the source's connection"
            raise UserError(f"access is refused (status {answer.status_code})", where=where, hint=hint)
        if answer.is_redirect:
            raise UserError("it lies elsewhere now", where=where, hint="give the new address in the spec")
        if not answer.is_success:
            raise DataError(f"status {answer.status_code}", where=where, hint="check the URL")
        path = self._folder / name / (urlsplit(url).path.rpartition("/")[2] or name)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._write(answer, path, where)
        tag = f"{answer.headers.get('ETag', '')}\n{answer.headers.get('Last-Modified', '')}"
        return path, tag if tag.strip() and len(tag) <= 500 else ""

    def _write(self, answer: httpx.Response, path: Path, where: str) -> None:
        limit, size = self._spec.max_file_bytes, 0
        with path.open("wb") as file:
            for part in answer.iter_bytes(1 << 18):  # undoes Content-Encoding: the limit is on what is stored
                size += len(part)
                if size > limit:
                    hint = "if it is right, raise the source's max_file_bytes"
                    raise DataError(f"has more than {limit} bytes", where=where, hint=hint)
                file.write(part)

    def _where(self, url: str) -> str:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"


def _conditions(tag: str) -> dict[str, str]:
    etag, _, changed = tag.partition("\n")
    return {**({"If-None-Match": etag} if etag else {}), **({"If-Modified-Since": changed} if changed else {})}


def _asked_wait(answer: httpx.Response) -> float | None:
    """Seconds that `Retry-After` asks for (a number, or a moment)."""
    value = answer.headers.get("Retry-After", "").strip()
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, (email.utils.parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
