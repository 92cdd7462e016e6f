"""Object store: where bytes live. A local folder by default, S3 in production, one contract.

Keys are `/`-separated relative paths. Writers never see half of an object and neither do readers: a `put` is visible
whole or not at all, also after `kill -9`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote, urlsplit

from include.errors import UserError, WindtunnelError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client  # pragma: no cover


class StoreError(WindtunnelError):
    """The object store could not do what was asked; `fields["key"]` names the object."""


class ObjectNotFound(StoreError):
    """There is no object under this key."""


class ObjectStore(Protocol):
    """Bytes by key.

    Every method may be called from several threads and processes at once. Any of them may raise `StoreError` when the
    store cannot be reached or written; none returns a neutral value instead.
    """

    def put(self, key: str, data: bytes) -> None:
        """Writes the object whole, replacing one of the same key."""
        ...

    def get(self, key: str) -> bytes:
        """The object's bytes. Raises `ObjectNotFound`."""
        ...

    def exists(self, key: str) -> bool:
        """Whether there is an object under exactly this key."""
        ...

    def keys(self, prefix: str) -> Iterator[str]:
        """Keys that start with `prefix`, in ascending order."""
        ...

    def delete(self, key: str) -> None:
        """Removes the object; nothing happens where there is none."""
        ...

    def upload(self, key: str, path: Path) -> None:
        """Like `put`, from a file, without holding it in memory."""
        ...

    def download(self, key: str, path: Path) -> None:
        """Writes the object to `path`, atomically. Raises `ObjectNotFound`."""
        ...

    def uri(self, key: str) -> str:
        """The object's URI: `file:///...` or `s3://...`."""
        ...

    def key(self, uri: str) -> str:
        """The key behind a URI of this store. Raises `UserError` for a URI of another store."""
        ...


def check_key(key: str) -> str:
    """`key`, if it is a plain relative path.

    Raises:
        UserError: The key is empty, absolute, or leaves the store through `..`.
    """
    path = PurePosixPath(key)
    if not key or path.is_absolute() or ".." in path.parts or "\0" in key:
        raise UserError(f"not an object key: {key!r}", hint="keys are relative paths without `..`")
    return key


def open_store(url: str) -> ObjectStore:
    """The object store at `url` (`file:///folder` or `s3://bucket/prefix`).

    Raises:
        UserError: The scheme is unknown.
    """
    parts = urlsplit(url)
    if parts.scheme == "file":
        return LocalObjectStore(Path(unquote(parts.path)))
    if parts.scheme == "s3":
        return S3ObjectStore(parts.netloc, parts.path.strip("/"))
    raise UserError(
        f"unknown object store {url!r}", where="WINDTUNNEL_STORE_URL", hint="use file:///folder or s3://bucket/prefix"
    )


def _relative(uri: str, root: str) -> str:
    base = root.rstrip("/") + "/"
    if not uri.startswith(base):
        raise UserError(f"{uri!r} does not lie in the object store {root!r}", hint="check WINDTUNNEL_STORE_URL")
    return check_key(unquote(uri[len(base) :]) if base.startswith("file:") else uri[len(base) :])


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Tells who downloads an object that there is no room for it."""
    try:
        yield
    except OSError as error:
        hint = "check that the folder is writable and the disk is not full"
        raise StoreError(f"cannot write {path.name}: {error.strerror}", where=str(path.parent), hint=hint) from error


class LocalObjectStore:
    """Objects as files under a folder; a write goes to a temporary file that is renamed over the target."""

    _TEMPORARY = ".tmp-"

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, key: str, data: bytes) -> None:
        def write(temporary: Path) -> None:
            temporary.write_bytes(data)

        self._replace(key, write)

    def get(self, key: str) -> bytes:
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise self._missing(key) from None

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def keys(self, prefix: str) -> Iterator[str]:
        start = (
            self._root / PurePosixPath(prefix).parent if prefix and not prefix.endswith("/") else self._root / prefix
        )
        found: list[str] = []
        for folder, _, files in os.walk(start):
            relative = Path(folder).relative_to(self._root).as_posix()
            for name in files:
                key = name if relative == "." else f"{relative}/{name}"
                if key.startswith(prefix) and not name.startswith(self._TEMPORARY):
                    found.append(key)
        yield from sorted(found)

    def delete(self, key: str) -> None:
        self._path(key).unlink(missing_ok=True)

    def upload(self, key: str, path: Path) -> None:
        def write(temporary: Path) -> None:
            shutil.copyfile(path, temporary)

        self._replace(key, write)

    def download(self, key: str, path: Path) -> None:
        source = self._path(key)
        if not source.is_file():
            raise self._missing(key)
        with _writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f"{self._TEMPORARY}{os.getpid()}-{path.name}")
            shutil.copyfile(source, temporary)
            os.replace(temporary, path)

    def uri(self, key: str) -> str:
        return f"{self._root.as_uri()}/{check_key(key)}"

    def key(self, uri: str) -> str:
        return _relative(uri, self._root.as_uri())

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    def _missing(self, key: str) -> ObjectNotFound:
        return ObjectNotFound(f"there is no object {key!r}", where=str(self._root), key=key)

    def _replace(self, key: str, write: Any) -> None:
        target = self._path(key)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=self._TEMPORARY, dir=target.parent)
            os.close(handle)
            temporary = Path(name)
            try:
                write(temporary)
                with temporary.open("rb") as written:
                    os.fsync(written.fileno())
                os.replace(temporary, target)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(
                f"cannot write {key!r}: {error.strerror}",
                where=str(self._root),
                hint="check that the folder is writable and the disk is not full",
                key=key,
            ) from error


class S3ObjectStore:
    """Objects in an S3 bucket, through boto3; endpoint and credentials come from boto3's own environment."""

    def __init__(self, bucket: str, prefix: str, client: S3Client | None = None) -> None:
        import boto3

        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._client = client or boto3.client("s3")

    def put(self, key: str, data: bytes) -> None:
        with self._told(key):
            self._client.put_object(Bucket=self._bucket, Key=self._name(key), Body=data)

    def get(self, key: str) -> bytes:
        with self._told(key):
            return bytes(self._client.get_object(Bucket=self._bucket, Key=self._name(key))["Body"].read())

    def exists(self, key: str) -> bool:
        try:
            with self._told(key):
                self._client.head_object(Bucket=self._bucket, Key=self._name(key))
        except ObjectNotFound:
            return False
        return True

    def keys(self, prefix: str) -> Iterator[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix + prefix
        )
        with self._told(prefix):
            for page in pages:
                for item in page.get("Contents", []):
                    yield item["Key"][len(self._prefix) :]

    def delete(self, key: str) -> None:
        with self._told(key):
            self._client.delete_object(Bucket=self._bucket, Key=self._name(key))

    def upload(self, key: str, path: Path) -> None:
        with self._told(key):
            self._client.upload_file(str(path), self._bucket, self._name(key))

    def download(self, key: str, path: Path) -> None:
        with self._told(key), _writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._client.download_file(self._bucket, self._name(key), str(path))

    def uri(self, key: str) -> str:
        return f"s3://{self._bucket}/{self._prefix}{check_key(key)}"

    def key(self, uri: str) -> str:
        return _relative(uri, f"s3://{self._bucket}/{self._prefix}")

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)

    @contextmanager
    def _told(self, key: str) -> Iterator[None]:
        """Turns boto3's errors into ours."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        place = f"s3://{self._bucket}/{self._prefix}"
        try:
            yield
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code in {"404", "NoSuchKey", "NotFound"}:
                raise ObjectNotFound(f"there is no object {key!r}", where=place, key=key) from None
            raise StoreError(
                f"S3 refused {key!r}: {code}", where=place, hint="check bucket and rights", key=key
            ) from error
        except Boto3Error as error:  # what `upload_file` makes of the server's answer
            raise StoreError(
                f"S3 did not take {key!r}: {error}", where=place, hint="check bucket and rights", key=key
            ) from error
        except BotoCoreError as error:
            raise StoreError(
                f"S3 cannot be reached: {error}", where=place, hint="check endpoint and network", key=key
            ) from error
