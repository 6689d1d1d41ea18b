"""Distillation: the journal keeps what it has, whatever byte a kill falls on."""

import json
import os
import random
import subprocess
import sys
import threading
import time

import pytest

from openrlhf_math.errors import UserError
from openrlhf_math.runs import journal as module
from openrlhf_math.runs.journal import Journal, open_journal

RECORDS = {("a", 0): {"content": "héllo\n"}, ("a", 1): {"content": ""}, ("b", 0): {"content": "x" * 5000}}


@pytest.fixture
def path(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    for (key, attempt), record in RECORDS.items():
        journal.append(key, attempt, record)
    journal.close()
    return tmp_path / "journal.jsonl"


def test_written_rows_are_read_back(path):
    journal = Journal(path)
    assert len(journal) == 3 and ("a", 1) in journal and ("b", 1) not in journal
    for (key, attempt), record in RECORDS.items():
        assert journal.read(key, attempt) == {"key": key, "attempt": attempt} | record
    with pytest.raises(KeyError):
        journal.read("c", 0)
    journal.close()


def test_file_cut_at_any_byte_keeps_complete_lines(path):
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    cuts = [*range(len(lines[0]) + len(lines[1]) + 40), *range(len(whole) - 30, len(whole) + 1)]
    for cut in cuts:
        path.write_bytes(whole[:cut])
        journal = Journal(path)
        kept = whole[:cut].count(b"\n")
        assert len(journal) == kept
        for (key, attempt), record in list(RECORDS.items())[kept:]:
            journal.append(key, attempt, record)
        journal.close()
        assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (b"{nonsense}\n", "journal.jsonl:2: the line is not an attempt; delete it"),
        (b"[1, 2]\n", "journal.jsonl:2: the line is not an attempt"),
        (b"\x00\x00\n", "journal.jsonl:2: the line is not an attempt"),
        (b'{"key": "a", "attempt": 0}\n', "journal.jsonl:2: that attempt is there twice"),
    ],
)
def test_other_broken_line_is_named(path, line, sentence):
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + line + lines[1])
    before = path.read_bytes()
    with pytest.raises(UserError, match=sentence):
        Journal(path)
    assert path.read_bytes() == before


def test_one_run_at_a_time(path):
    journal = Journal(path)
    with pytest.raises(UserError, match="another process writes there"):
        Journal(path)
    journal.close()
    Journal(path).close()


def test_no_attempt_is_written_twice(path):
    journal = Journal(path)
    with pytest.raises(ValueError, match="in the journal already"):
        journal.append("a", 0, {})
    journal.close()
    assert len([json.loads(line) for line in path.read_text().splitlines()]) == 3


@pytest.fixture
def disk(monkeypatch):
    """A disk that does not come to an end with its work until it is set."""
    working, synced = threading.Event(), os.fdatasync
    monkeypatch.setattr(module.os, "fdatasync", lambda file: (working.wait(60), synced(file)))
    return working


def test_appending_does_not_wait_for_the_disk(tmp_path, disk):
    journal = Journal(tmp_path / "journal.jsonl")
    for attempt in range(1000):
        journal.append("a", attempt, {"content": "x"})
    flushed = threading.Thread(target=journal.flush)
    flushed.start()
    flushed.join(0.2)
    assert flushed.is_alive() and ("a", 999) in journal
    disk.set()
    flushed.join(60)
    assert not flushed.is_alive() and (tmp_path / "journal.jsonl").read_text().count("\n") == 1000
    journal.close()


def test_appends_are_batched(tmp_path, monkeypatch):
    batches = []
    monkeypatch.setattr(module.os, "fdatasync", batches.append)
    journal = Journal(tmp_path / "journal.jsonl")
    begun = time.monotonic()
    for attempt in range(3000):
        journal.append("a", attempt, {"content": "x"})
    journal.close()
    seconds = time.monotonic() - begun
    assert 1 <= len(batches) <= 3 + seconds / module.BATCH_SECONDS


def test_appended_rows_are_readable_immediately(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    for attempt in range(20):
        journal.append("a", attempt, {"content": str(attempt)})
        assert journal.read("a", attempt)["content"] == str(attempt)
    journal.close()


def fail(file):
    raise OSError(28, "No space left on device")


def test_disk_failure_is_raised_by_the_next_append(tmp_path, monkeypatch):
    monkeypatch.setattr(module.os, "fdatasync", fail)
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append("a", 0, {})
    with pytest.raises(UserError, match="cannot be written .No space left on device."):
        journal.flush()
    for act in (lambda: journal.append("a", 1, {}), lambda: journal.read("a", 0), journal.close):
        with pytest.raises(UserError, match="No space left on device"):
            act()
    Journal(tmp_path / "journal.jsonl").close()  # its lock was let go


APPENDS = """
import sys, time
from pathlib import Path
from openrlhf_math.runs.journal import Journal
journal = Journal(Path(sys.argv[1]))
for attempt in range(len(journal), 10**6):
    journal.append("a", attempt, {"content": "x" * 500})
    print(attempt, time.monotonic(), flush=True)
    time.sleep(0.0005)
"""


def test_kill_loses_only_the_last_batch(tmp_path):
    """At random moments, in one journal: what is lost is the end of what was appended, and young."""
    path, kept = tmp_path / "journal.jsonl", 0
    for _ in range(4):
        command = [sys.executable, "-c", APPENDS, str(path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        first = process.stdout.readline()
        time.sleep(0.3 * random.random())
        process.kill()
        lines = (first + process.stdout.read()).splitlines()
        process.wait()
        appended = [line.split() for line in lines if line.count(" ") == 1]
        assert int(appended[0][0]) == kept, "it appends to what is there"
        journal = Journal(path)
        kept = len(journal)
        journal.close()
        records = map(json.loads, path.read_text().splitlines())
        assert [record["attempt"] for record in records] == list(range(kept))
        lost = [float(moment) for attempt, moment in appended if int(attempt) >= kept]
        assert not lost or float(appended[-1][1]) - lost[0] < 100 * module.BATCH_SECONDS  # the machine may be busy
    assert kept


def test_run_resumes_by_another_spelling_of_the_same_place(tmp_path, monkeypatch):
    for name in ("model", "other"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    open_journal(tmp_path / "run", {"model": "model", "seed": 0}).close()
    open_journal(tmp_path / "run", {"model": str(tmp_path / "model"), "seed": 0}).close()
    for refused in ({"model": "other"}, {"model": "gone"}, {"model": "model", "seed": 1}):
        with pytest.raises(UserError):
            open_journal(tmp_path / "run", {"seed": 0} | refused)
