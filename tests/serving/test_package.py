"""Model packages: what is not exactly what was sealed is not loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from include.serving.package import (
    PACKAGE_FILE,
    PackageError,
    fetch,
    package_prefix,
    publish,
    read_package,
    seal,
    verify,
)
from include.store.objects import LocalObjectStore

CODE = "tests.fakes.echo_family:EchoFamily"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "made"
    (made / "index").mkdir(parents=True)
    (made / "note.txt").write_bytes(b"weights")
    (made / "index" / "passages.json").write_text("[]")
    return made


@pytest.fixture
def store(tmp_path: Path) -> LocalObjectStore:
    return LocalObjectStore(tmp_path / "store")


def test_a_published_package_comes_back_as_it_was(folder: Path, store: LocalObjectStore, tmp_path: Path) -> None:
    package = seal(folder, "echo", CODE, {"parity": 1e-6})
    assert publish(store, folder) == f"models/echo/{package.digest}"
    fetched = fetch(store, "echo", package.digest, tmp_path / "cache")
    assert (fetched / "index" / "passages.json").read_text() == "[]"
    assert read_package(fetched) == package and package.size == 9
    assert seal(folder, "echo", CODE, {"parity": 0.5}).digest == package.digest  # facts are no content


def test_only_kinds_that_cannot_run_code_are_sealed(folder: Path) -> None:
    (folder / "model.pkl").write_bytes(b"")
    with pytest.raises(PackageError, match=r"model\.pkl"):
        seal(folder, "echo", CODE, {})


def test_an_empty_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="empty"):
        seal(tmp_path, "echo", CODE, {})


@pytest.mark.parametrize("change", ["altered", "missing", "added", "renamed", "code", "digest"])
def test_any_change_is_found(folder: Path, change: str) -> None:
    digest = seal(folder, "echo", CODE, {}).digest
    record = json.loads((folder / PACKAGE_FILE).read_text())
    if change == "altered":
        (folder / "note.txt").write_bytes(b"weighty")
    elif change == "missing":
        (folder / "note.txt").unlink()
    elif change == "added":
        (folder / "more.json").write_text("{}")
    elif change == "renamed":
        (folder / "note.txt").rename(folder / "other.onnx")
    elif change == "code":
        record["code"] = "os:system"
    else:
        record["digest"] = "0" * 64
    (folder / PACKAGE_FILE).write_text(json.dumps(record))
    with pytest.raises(PackageError):
        verify(folder, digest)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"files": 7}',
        '{"digest":"d","family":"f","code":"c","facts":{},"files":{"a.json":[1]}}',
    ],
)
def test_a_package_file_that_cannot_be_read_is_an_error_of_the_package(tmp_path: Path, text: str) -> None:
    (tmp_path / PACKAGE_FILE).write_text(text)
    with pytest.raises(PackageError, match="cannot be read"):
        read_package(tmp_path)


@pytest.mark.parametrize(
    "name", ["../../etc/cron.json", "/etc/cron.json", "a/../../b.json", "model.pkl", "package.json", ""]
)
def test_names_that_lead_out_of_the_folder_are_refused_before_anything_is_written(
    folder: Path, store: LocalObjectStore, tmp_path: Path, name: str
) -> None:
    digest = seal(folder, "echo", CODE, {}).digest
    publish(store, folder)
    key = f"{package_prefix('echo', digest)}/{PACKAGE_FILE}"
    record = json.loads(store.get(key))
    record["files"][name] = ["0" * 64, 1]
    store.put(key, json.dumps(record).encode())
    with pytest.raises(PackageError, match="may not be in a model package"):
        fetch(store, "echo", digest, tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == []


def test_a_package_that_is_not_whole_in_the_store_is_refused(
    folder: Path, store: LocalObjectStore, tmp_path: Path
) -> None:
    digest = seal(folder, "echo", CODE, {}).digest
    with pytest.raises(PackageError, match="not whole"):
        fetch(store, "echo", digest, tmp_path / "cache")
    publish(store, folder)
    store.delete(f"models/echo/{digest}/note.txt")
    with pytest.raises(PackageError, match="not whole"):
        fetch(store, "echo", digest, tmp_path / "cache")
    assert not (tmp_path / "cache" / "echo").exists()


def test_a_damaged_copy_is_fetched_again_but_a_damaged_original_is_refused(
    folder: Path, store: LocalObjectStore, tmp_path: Path
) -> None:
    digest = seal(folder, "echo", CODE, {}).digest
    publish(store, folder)
    fetched = fetch(store, "echo", digest, tmp_path / "cache")
    (fetched / "note.txt").write_bytes(b"damaged")
    assert (fetch(store, "echo", digest, tmp_path / "cache") / "note.txt").read_bytes() == b"weights"
    store.put(f"models/echo/{digest}/note.txt", b"evil")
    assert fetch(store, "echo", digest, tmp_path / "cache") == fetched  # the good copy still serves
    with pytest.raises(PackageError, match="altered"):
        fetch(store, "echo", digest, tmp_path / "other-cache")
