"""The journal keeps whole chunks, of one fingerprint, for one process at a time."""

import sqlite3
from pathlib import Path

import pytest

from app.bulk.journal import FinishedChunk, Journal, Totals
from app.errors import BulkRunError

FINGERPRINT = {"source": "a", "options": {"horizon": 3, "levels": (0.1, 0.9)}}


def chunk(number: int) -> FinishedChunk:
    return FinishedChunk(
        number=number,
        num_series=8,
        num_refused=1,
        num_rows=42,
        has_times=False,
        rows=b"rows %d" % number,
        refusals=b"refusals %d" % number,
    )


def test_chunks_come_back_in_order_whenever_they_were_done(tmp_path: Path) -> None:
    with Journal(tmp_path, FINGERPRINT) as journal:
        for number in (2, 0, 1):
            journal.record(chunk(number))
    with Journal(tmp_path, FINGERPRINT) as journal:
        assert journal.changed == []
        assert list(journal.rows()) == [b"rows 0", b"rows 1", b"rows 2"]
        assert list(journal.refusals()) == [b"refusals 0", b"refusals 1", b"refusals 2"]
        assert journal.totals() == Totals(24, 3, 126, has_times=False)


def test_new_journal_is_empty(tmp_path: Path) -> None:
    with Journal(tmp_path / "work", FINGERPRINT) as journal:
        assert journal.numbers() == set()
        assert journal.totals() == Totals(0, 0, 0, has_times=False)


def test_other_fingerprint_throws_chunks_away_and_says_what_changed(tmp_path: Path) -> None:
    with Journal(tmp_path, FINGERPRINT) as journal:
        journal.record(chunk(0))
    with Journal(tmp_path, FINGERPRINT | {"source": "b"}) as journal:
        assert journal.changed == ["source"]
        assert journal.numbers() == set()


def test_chunk_is_recorded_once(tmp_path: Path) -> None:
    with Journal(tmp_path, FINGERPRINT) as journal:
        journal.record(chunk(0))
        with pytest.raises(BulkRunError):
            journal.record(chunk(0))


def test_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").write_bytes(b"something else entirely" * 100)
    with pytest.raises(BulkRunError, match=r"journal\.sqlite: file is not a database"):
        Journal(tmp_path, FINGERPRINT)


def test_folder_that_can_not_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BulkRunError, match="can not make"):
        Journal(tmp_path / "file" / "work", FINGERPRINT)


def test_chunk_that_was_not_committed_is_not_there(tmp_path: Path) -> None:
    with Journal(tmp_path, FINGERPRINT):
        pass
    database = sqlite3.connect(tmp_path / "journal.sqlite")
    database.execute("INSERT INTO chunks VALUES (0, 8, 0, 8, 0, x'00', x'')")
    database.close()  # as a kill would: without a commit
    with Journal(tmp_path, FINGERPRINT) as journal:
        assert journal.numbers() == set()
