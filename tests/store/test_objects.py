"""The contract of `ObjectStore`, held against every store."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from include.errors import UserError
from include.store.objects import ObjectNotFound, ObjectStore, StoreError, open_store


class TestContract:
    def test_what_was_put_is_got(self, store: ObjectStore) -> None:
        store.put("a/b c/ü.bin", b"\x00\xff")
        assert store.get("a/b c/ü.bin") == b"\x00\xff"
        assert store.exists("a/b c/ü.bin")

    def test_a_put_replaces(self, store: ObjectStore) -> None:
        store.put("k", b"long before")
        store.put("k", b"new")
        assert store.get("k") == b"new"

    def test_an_empty_object_is_an_object(self, store: ObjectStore) -> None:
        store.put("k", b"")
        assert store.exists("k")
        assert store.get("k") == b""

    def test_what_is_not_there(self, store: ObjectStore, tmp_path: Path) -> None:
        store.put("a/b", b"x")
        assert not store.exists("a")  # a prefix is no object
        assert not store.exists("a/b/c")
        for key in ("a", "none", "a/none"):
            with pytest.raises(ObjectNotFound) as caught:
                store.get(key)
            assert caught.value.fields["key"] == key
            with pytest.raises(ObjectNotFound):
                store.download(key, tmp_path / "f")
        assert not (tmp_path / "f").exists()

    def test_keys_are_listed_in_order_by_any_prefix(self, store: ObjectStore) -> None:
        for key in ("b/2", "b/10", "b/1/x", "bc", "a"):
            store.put(key, b"")
        assert list(store.keys("")) == ["a", "b/1/x", "b/10", "b/2", "bc"]
        assert list(store.keys("b/")) == ["b/1/x", "b/10", "b/2"]
        assert list(store.keys("b/1")) == ["b/1/x", "b/10"]
        assert list(store.keys("b")) == ["b/1/x", "b/10", "b/2", "bc"]
        assert list(store.keys("none/")) == []

    def test_more_keys_than_a_page(self, store: ObjectStore) -> None:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda n: store.put(f"many/{n:04d}", b""), range(1_050)))
        assert len(list(store.keys("many/"))) == 1_050

    def test_a_delete_is_final_and_can_be_repeated(self, store: ObjectStore) -> None:
        store.put("k", b"x")
        store.delete("k")
        store.delete("k")
        assert not store.exists("k")

    def test_files_go_up_and_come_down(self, store: ObjectStore, tmp_path: Path) -> None:
        source, target = tmp_path / "up.bin", tmp_path / "new" / "folder" / "down.bin"
        source.write_bytes(os.urandom(3_000_000))
        store.upload("f", source)
        store.download("f", target)
        assert target.read_bytes() == source.read_bytes()
        assert [path.name for path in target.parent.iterdir()] == ["down.bin"]

    def test_a_uri_leads_back_to_its_key(self, store: ObjectStore) -> None:
        assert store.key(store.uri("a/b.json")) == "a/b.json"
        with pytest.raises(UserError, match="does not lie in"):
            store.key("s3://elsewhere/a/b.json")
        with pytest.raises(UserError, match="does not lie in"):
            store.key(store.uri("a").removesuffix("/a") + "-other/a")

    @pytest.mark.parametrize("key", ["", "/etc/passwd", "../x", "a/../../x", "a\0b"])
    def test_a_key_cannot_leave_the_store(self, store: ObjectStore, key: str) -> None:
        for use in (store.get, store.exists, store.delete, store.uri, lambda key: store.put(key, b"")):
            with pytest.raises(UserError, match="not an object key"):
                use(key)

    def test_readers_never_see_half_of_an_object(self, store: ObjectStore) -> None:
        bodies = [bytes([n]) * 200_000 for n in range(4)]
        store.put("k", bodies[0])
        with ThreadPoolExecutor(8) as pool:
            writes = [pool.submit(store.put, "k", body) for body in bodies * 3]
            reads = [pool.submit(store.get, "k") for _ in range(12)]
        assert all(write.exception() is None for write in writes)
        assert all(read.result() in bodies for read in reads)


class TestLocal:
    def test_a_folder_that_cannot_be_written_says_what_to_do(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(StoreError, match="cannot write") as caught:
            open_store((tmp_path / "file").as_uri()).put("k", b"x")
        assert "disk is not full" in caught.value.hint

    def test_a_writer_that_is_killed_leaves_no_object(self, tmp_path: Path) -> None:
        code = (
            "import sys; from include.store.objects import open_store; s = open_store(sys.argv[1])\n"
            "print('go', flush=True)\n"
            "while True: s.put('k', b'a' * 5_000_000); s.put('k', b'b' * 5_000_000)"
        )
        url = (tmp_path / "s").as_uri()
        root = Path(__file__).resolve().parents[2]
        process = subprocess.Popen([sys.executable, "-c", code, url], stdout=subprocess.PIPE, cwd=root)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.3)
        process.send_signal(signal.SIGKILL)
        process.wait()
        store = open_store(url)
        assert list(store.keys("")) == ["k"]
        assert store.get("k") in (b"a" * 5_000_000, b"b" * 5_000_000)


class TestS3:
    @pytest.mark.parametrize("use", ["put", "keys", "upload"])
    def test_a_bucket_that_is_not_there(self, s3_url: str, tmp_path: Path, use: str) -> None:
        with pytest.raises(StoreError, match="NoSuchBucket"):
            _use(open_store("s3://no-such-bucket/x"), use, tmp_path)

    @pytest.mark.parametrize("use", ["put", "get", "keys", "exists", "upload", "download", "delete"])
    def test_a_server_that_is_down(
        self, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: str
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        with pytest.raises(StoreError, match="cannot be reached"):
            _use(open_store(s3_url), use, tmp_path)

    def test_an_answer_that_is_cut_off_is_no_object(self, s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A server that announces more bytes than it sends."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            threading.Thread(target=_answer_half, args=(server,), daemon=True).start()
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
            monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
            with pytest.raises(StoreError, match="cannot be reached"):
                open_store(s3_url).get("k")


def _use(store: ObjectStore, use: str, folder: Path) -> object:
    (folder / "file").write_bytes(b"x")
    calls: dict[str, Callable[[], object]] = {
        "put": lambda: store.put("k", b""),
        "get": lambda: store.get("k"),
        "keys": lambda: list(store.keys("k")),
        "exists": lambda: store.exists("k"),
        "upload": lambda: store.upload("k", folder / "file"),
        "download": lambda: store.download("k", folder / "new"),
        "delete": lambda: store.delete("k"),
    }
    return calls[use]()


def _answer_half(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")


def test_an_unknown_kind_of_store_is_the_users_error() -> None:
    with pytest.raises(UserError, match="unknown object store"):
        open_store("ftp://somewhere/x")
