"""Files in an S3 bucket, of any endpoint. The bucket is listed by folder and only what is needed is fetched."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from include.data.sources.credentials import Credentials, SourceError
from include.data.sources.files import RemoteFile, date_in, group_tag
from include.data.sources.place import Offer, Window
from include.errors import DataError, UserError
from include.families.contract import DataCode, Delivery

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_DENIED = frozenset({"403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "401", "ExpiredToken"})


class S3Files:
    """Satisfies `Listing`. Endpoint, region and keys come from the connection, or from boto3's own environment."""

    def __init__(self, url: str, credentials: Credentials, max_bytes: int) -> None:
        import boto3

        parts = urlsplit(url)
        self._bucket, self._prefix = parts.netloc, parts.path.strip("/")
        self._base = f"{self._prefix}/" if self._prefix else ""  # what names in the source do not begin with
        self._credentials = credentials
        self._max_bytes = max_bytes
        extra = credentials.extra
        self._client = boto3.client(
            "s3",
            aws_access_key_id=credentials.login or None,
            aws_secret_access_key=credentials.password or None,
            aws_session_token=extra.get("aws_session_token"),
            region_name=extra.get("region_name"),
            endpoint_url=extra.get("endpoint_url") or extra.get("host"),
        )

    @property
    def where(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}"

    def files(self, window: Window) -> Iterator[RemoteFile]:
        if (one := self._one()) is not None:
            yield one
            return
        for entry in self._top():
            if isinstance(entry, RemoteFile):
                yield entry
                continue
            day = date_in(entry[len(self._base) :])
            if day is None or not window.is_after(day):
                for page in self._pages(Prefix=entry):
                    yield from self._items(page)

    def fetch(self, file: RemoteFile, folder: Path) -> Path:
        where = f"s3://{self._bucket}/{self._base}{file.name}"
        target = folder / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        answer = self._call(self._client.get_object, Bucket=self._bucket, Key=self._base + file.name)
        if answer["ContentLength"] > self._max_bytes:
            hint = "if it is right, raise the source's max_file_bytes"
            raise DataError(f"has {answer['ContentLength']} bytes, more than {self._max_bytes}", where=where, hint=hint)
        with target.open("wb") as out:
            self._call(shutil.copyfileobj, answer["Body"], out, 1 << 20)
        return target

    def _one(self) -> RemoteFile | None:
        """The file that the URL names, if it is one."""
        if not self._prefix:
            return None
        page = next(self._pages(Prefix=self._prefix, PaginationConfig={"MaxItems": 1}))
        items = [item for item in page.get("Contents", []) if item["Key"] == self._prefix]
        if items:
            self._base = f"{self._prefix.rpartition('/')[0]}/".lstrip("/")
        return next(self._items({"Contents": items}), None)

    def _top(self) -> Iterator[str | RemoteFile]:
        """The folders (as prefixes) and the files directly under the source."""
        for page in self._pages(Prefix=self._base, Delimiter="/"):
            yield from self._items(page)
            for folder in page.get("CommonPrefixes", []):
                yield folder["Prefix"]

    def _items(self, page: dict[str, Any]) -> Iterator[RemoteFile]:
        for item in page.get("Contents", []):
            if not item["Key"].endswith("/"):
                day = item["LastModified"].astimezone(UTC).date()
                yield RemoteFile(item["Key"][len(self._base) :], day, f"{item['ETag']} {item['Size']}")

    def _pages(self, **what: Any) -> Iterator[dict[str, Any]]:
        pages = iter(self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, **what))
        while (page := self._call(next, pages, None)) is not None:
            yield page

    def _call(self, method: Any, *args: Any, **kwargs: Any) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return method(*args, **kwargs)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code in _DENIED:
                hint = "check the keys of the connection, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
                raise UserError(f"S3 refuses access: {code}", where=self.where, hint=hint) from None
            if code in ("NoSuchBucket", "NoSuchKey", "404"):
                raise DataError(f"S3 has no such thing: {code}", where=self.where, hint="check the URL") from None
            raise SourceError(f"S3 failed: {code}", where=self.where, hint="try again") from None
        except (BotoCoreError, OSError) as error:
            text = self._credentials.scrub(str(error))
            raise SourceError(f"S3 cannot be reached: {text}", where=self.where, hint="check the endpoint") from None


class S3Layout:
    """Satisfies `Place` for a bucket whose layout the family's code knows.

    Folders that are named like days are deliveries, and are fetched one by one. Where there are none, the layout is not
    known from outside, and the whole prefix is fetched once.
    """

    def __init__(self, files: S3Files, code: DataCode, reader: str, folder: Path) -> None:
        self._files = files
        self._code = code
        self._reader = reader
        self._folder = folder

    def offers(self, window: Window) -> Iterator[Offer]:
        days: defaultdict[str, list[RemoteFile]] = defaultdict(list)
        others: list[RemoteFile] = []
        for file in self._files.files(window):
            top, _, rest = file.name.partition("/")
            (days[top] if rest and _DAY.fullmatch(top) else others).append(file)
        if not days and not others:
            raise DataError("the source is empty", where=self._files.where, hint="check bucket and prefix")
        for name, files in sorted(days.items()):
            day = date_in(name)
            if day is None:
                raise DataError(f"{name!r} is not a date", where=self._files.where, hint="name the folder YYYY-MM-DD")
            yield Offer(name, day, group_tag(files), files)
        if not days:
            for file in others:
                self._files.fetch(file, self._folder)
            for delivery in self._code.deliveries(self._folder, self._reader):
                yield Offer(delivery.name, delivery.delivered_on, what=delivery)

    @contextmanager
    def fetch(self, offer: Offer) -> Iterator[Delivery]:
        if isinstance(offer.what, Delivery):
            yield offer.what
            return
        with tempfile.TemporaryDirectory(prefix="day-", dir=self._folder) as folder:
            for file in offer.what:
                self._files.fetch(file, Path(folder))
            for delivery in self._code.deliveries(Path(folder), self._reader):
                if delivery.name == offer.name:
                    yield delivery
                    return
        raise DataError(f"the family's code does not know {offer.name!r}", where=self._files.where, hint="check layout")
