"""JSON lines, documents and arrays: good files become records, and broken ones errors with a place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from include.data.formats import require_usable
from include.data.formats.json_array import CHUNK
from include.data.formats.json_text import array_items, json_lines, json_value
from include.errors import DataError

LIMIT = 10_000


class TestLines:
    @pytest.mark.parametrize(
        ("line", "problem"),
        [
            (b'{"a": "caf\xe9"}', "not_utf8"),
            (b'{"a": 1', "malformed_json"),
            (b"\x00\x01\x02", "malformed_json"),
            (b"[" * 5_000, "malformed_json"),
            (b'{"a": ' + b"9" * 5_000 + b"}", "malformed_json"),
            (b"[1, 2]", "wrong_schema"),
            (b"null", "wrong_schema"),
            (b'{"a": "\\ud83d"}', "not_utf8"),
            (b'{"a": "' + b"x" * LIMIT + b'"}', "too_long"),
        ],
    )
    def test_a_bad_line_is_named_and_hides_no_other(self, tmp_path: Path, line: bytes, problem: str) -> None:
        path = tmp_path / "f.jsonl"
        path.write_bytes(b'{"n": 1}\n' + line + b'\n\n{"n": 2}')
        found = list(json_lines(path, LIMIT))
        assert [record.value for record in found] == [{"n": 1}, {}, {"n": 2}]
        assert found[1].problem == problem
        assert found[1].number == 2
        assert found[1].raw
        assert len(found[1].raw) <= 2_000

    def test_a_line_of_exactly_the_limit_is_read(self, tmp_path: Path) -> None:
        path = tmp_path / "f.jsonl"
        path.write_bytes(b'{"a": "' + b"x" * (LIMIT - 9) + b'"}\n{"a": "b"}\n')
        assert [record.problem for record in json_lines(path, LIMIT)] == [None, None]

    def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(self, tmp_path: Path) -> None:
        path = tmp_path / "f.jsonl"
        path.write_bytes(b'\xef\xbb\xbf{"n": 1}\r\n{"n": 2}\r\n')
        assert [record.value for record in json_lines(path, LIMIT)] == [{"n": 1}, {"n": 2}]

    def test_a_file_without_one_usable_line_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "f.jsonl"
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20)
        with pytest.raises(DataError, match="not one of") as caught:
            list(require_usable(path, json_lines(path, LIMIT)))
        assert caught.value.where == f"{path}:1"
        assert "UTF-8" in caught.value.hint

    def test_a_hopeless_file_is_given_up_early(self, tmp_path: Path) -> None:
        path = tmp_path / "f.jsonl"
        path.write_bytes(b"garbage\n" * 5_000 + b'{"n": 1}\n')
        with pytest.raises(DataError, match="the first 1000 records"):
            list(require_usable(path, json_lines(path, LIMIT)))

    def test_a_missing_file_is_a_data_error(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="cannot be read"):
            list(json_lines(tmp_path / "none.jsonl", LIMIT))


class TestWholeFiles:
    @pytest.mark.parametrize(
        ("data", "message", "line"),
        [
            (b"", "empty", None),
            (b" \n\n", "empty", None),
            (b'[{"a": 1},\n{"a": 2', "ends too early", 2),
            (b'[{"a": 1},\n\n{"a": }]', "not valid JSON", 3),
            (b'[{"a": 1}\n{"a": 2}]', "not valid JSON", 2),
            (b'[{"a": 1}', "ends too early", 1),
            (b'[\n{"a": "\xff"}]', "not UTF-8", 2),
            (b"[" + b"[" * 5_000, "cannot be parsed", 1),
        ],
    )
    def test_what_cannot_be_parsed_is_refused_with_line(
        self, tmp_path: Path, data: bytes, message: str, line: int | None
    ) -> None:
        path = tmp_path / "f.json"
        path.write_bytes(data)
        for use in (json_value, lambda path: list(array_items(path, LIMIT))):
            with pytest.raises(DataError, match=message) as caught:
                use(path)
            assert caught.value.where == (f"{path}:{line}" if line else str(path))
            assert caught.value.hint

    def test_the_error_counts_bytes_and_not_characters(self, tmp_path: Path) -> None:
        path = tmp_path / "f.json"
        path.write_text('{"a": "äöü" oops}', encoding="utf-8")
        with pytest.raises(DataError, match=r"byte 15\b"):
            json_value(path)

    def test_an_array_gives_its_records_and_names_odd_ones(self, tmp_path: Path) -> None:
        path = tmp_path / "f.json"
        path.write_text(json.dumps([{"n": 1}, 2, {"n": "x" * LIMIT}, {"n": 4}], indent=2))
        found = list(array_items(path, LIMIT))
        assert [record.problem for record in found] == [None, "wrong_schema", "too_long", None]
        assert found[3].value == {"n": 4}

    def test_an_object_is_no_array(self, tmp_path: Path) -> None:
        path = tmp_path / "f.json"
        path.write_text('\n{"a": 1}')
        with pytest.raises(DataError, match="JSON array") as caught:
            list(array_items(path, LIMIT))
        assert caught.value.where.endswith(":2")


class TestLongArrays:
    """Arrays are cut into items in windows; wherever a window ends, the records are the same."""

    RECORDS = [
        {"n": n, "text": 'quote " and \\ backslash, [brackets] {braces} é 漢 🙂' * (n % 5), "more": {"a": [n, [n]]}}
        for n in range(40)
    ]

    @pytest.mark.parametrize("window", [1, 2, 3, 7, 64, 1000, CHUNK])
    def test_windows_of_every_size(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int) -> None:
        monkeypatch.setattr("include.data.formats.json_array.CHUNK", window)
        path = tmp_path / "f.json"
        path.write_text(json.dumps(self.RECORDS, indent=1, ensure_ascii=False), encoding="utf-8")
        found = list(array_items(path, LIMIT))
        assert [record.value for record in found] == self.RECORDS
        assert [record.number for record in found] == list(range(1, 41))

    @pytest.mark.parametrize("window", [1, 5, CHUNK])
    def test_a_record_that_is_too_long_hides_no_other(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int
    ) -> None:
        monkeypatch.setattr("include.data.formats.json_array.CHUNK", window)
        path = tmp_path / "f.json"
        path.write_text(json.dumps([{"n": 1}, {"text": '\\"],[{' * 100}, {"n": 3}]))
        found = list(array_items(path, 200))
        assert [record.problem for record in found] == [None, "too_long", None]
        assert found[2].value == {"n": 3}

    def test_every_cut_is_told(self, tmp_path: Path) -> None:
        whole = json.dumps([{"a": "x]\\"}, {"b": [1, {"c": 2}]}]).encode()
        for end in range(1, len(whole)):
            path = tmp_path / "f.json"
            path.write_bytes(whole[:end])
            with pytest.raises(DataError, match="ends too early"):
                list(array_items(path, LIMIT))

    def test_what_follows_the_array_is_not_lost_silently(self, tmp_path: Path) -> None:
        path = tmp_path / "f.json"
        path.write_text('[{"a": 1}]\n[{"a": 2}]')
        with pytest.raises(DataError, match="more after the end") as caught:
            list(array_items(path, LIMIT))
        assert caught.value.where.endswith(":2")

    def test_an_empty_array_has_no_records(self, tmp_path: Path) -> None:
        path = tmp_path / "f.json"
        path.write_text(" [ ] ")
        assert list(array_items(path, LIMIT)) == []
