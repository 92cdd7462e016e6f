"""CSV: a broken row costs one line, whatever its quotes do, and a header that cannot be used refuses the file."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from include.data.formats.csv_text import csv_rows
from include.errors import DataError

LIMIT = 1_000


def rows(path: Path, data: bytes, **how: Any) -> list[tuple[int, Any]]:
    """(line, cells) of good rows and (line, problem) of others."""
    path.write_bytes(data)
    return [(row.number, row.problem or tuple(row.value.values())) for row in csv_rows(path, LIMIT, **how)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "f.csv"


class TestGoodFiles:
    def test_rows_by_name(self, path: Path) -> None:
        path.write_bytes(b"\xef\xbb\xbfid, name \r\n1,a\r\n\r\n2,\r\n")
        assert [row.value for row in csv_rows(path, LIMIT)] == [{"id": "1", "name": "a"}, {"id": "2", "name": ""}]

    def test_quotes_hold_line_ends_delimiters_and_quotes(self, path: Path) -> None:
        data = 'a,b\n"x\ny, ""z""",2\n"🙂 مرحبا",3\n'.encode()
        assert rows(path, data) == [(2, ('x\ny, "z"', "2")), (4, ("🙂 مرحبا", "3"))]

    def test_the_last_line_needs_no_end(self, path: Path) -> None:
        assert rows(path, b'a,b\n1,"2"') == [(2, ("1", "2"))]

    def test_other_delimiters_encodings_and_headers(self, path: Path) -> None:
        data = "é\t1\nü\t2\n".encode("cp1252")
        found = rows(path, data, delimiter="\t", encoding="cp1252", header=("name", "n"))
        assert found == [(1, ("é", "1")), (2, ("ü", "2"))]

    def test_gzip_is_undone(self, path: Path) -> None:
        assert rows(path, gzip.compress(b"a\n1\n2\n")) == [(2, ("1",)), (3, ("2",))]

    def test_a_header_without_rows_is_no_fault(self, path: Path) -> None:
        assert rows(path, b"a,b\n") == []


class TestBrokenRows:
    @pytest.mark.parametrize(
        ("line", "problem"),
        [
            (b"1", "wrong_schema"),
            (b"1,2,3", "wrong_schema"),
            (b'"1,2', "malformed_csv"),
            (b'"1"x,2', "malformed_csv"),
            (b"caf\xe9,2", "not_utf8"),
            (b"a\0b,2", "nul_byte"),
            (b"x" * 1_100 + b",2", "too_long"),
            (b'"' + b"x" * 1_100 + b'",2', "too_long"),
        ],
    )
    def test_one_line_is_lost_and_no_other(self, path: Path, line: bytes, problem: str) -> None:
        assert rows(path, b"a,b\n1,2\n" + line + b'\n3,"4"\n5,6\n') == [
            (2, ("1", "2")),
            (3, problem),
            (4, ("3", "4")),
            (5, ("5", "6")),
        ]

    def test_an_open_quote_does_not_swallow_the_file(self, path: Path) -> None:
        tail = b"".join(b"%d,y\n" % n for n in range(500))
        found = rows(path, b'a,b\n"open,1\n' + tail)
        assert found[0] == (2, "malformed_csv")
        assert len(found) == 501
        assert {cells[1] for _, cells in found[1:]} == {"y"}

    def test_two_open_quotes_do_not_make_a_row_of_what_is_between(self, path: Path) -> None:
        found = rows(path, b'a,b\n1,"open\n2,x\n3,y\n4,"open\n5,z\n')
        assert found == [
            (2, "malformed_csv"),
            (3, ("2", "x")),
            (4, ("3", "y")),
            (5, "malformed_csv"),
            (6, ("5", "z")),
        ]

    def test_a_bad_byte_in_a_row_of_several_lines(self, path: Path) -> None:
        assert rows(path, b'a,b\n"x\n\xff",1\n2,3\n') == [(2, "not_utf8"), (4, ("2", "3"))]

    def test_what_is_kept_of_a_broken_row_is_text(self, path: Path) -> None:
        path.write_bytes(b"a,b\ncaf\xe9,2\n")
        row = next(csv_rows(path, LIMIT))
        assert row.raw == "caf?,2"
        assert row.raw.encode()


class TestFilesThatAreRefused:
    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"", "is empty"),
            (b"\n\n\n", "no columns"),
            (b",,\n1,2,3\n", "no columns"),
            (b"a,b,a\n1,2,3\n", "'a' twice"),
            (b'"a,b\n1,2\n', "header cannot be read"),
            (b"caf\xe9,b\n1,2\n", "header cannot be read"),
            ("a,b\n1,2\n".encode("utf-16"), "UTF-16"),
            (gzip.compress(b"a\n" + b"1\n" * 9_000, mtime=0)[:-20], "damaged gzip"),
            (b"\x1f\x8b\x08\x00garbage that is no gzip at all", "damaged gzip"),
        ],
    )
    def test_with_a_clear_error(self, path: Path, data: bytes, message: str) -> None:
        with pytest.raises(DataError, match=message) as caught:
            rows(path, data)
        assert str(path) in caught.value.where
        assert caught.value.hint
