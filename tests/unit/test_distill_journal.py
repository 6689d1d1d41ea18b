"""Distillation: the journal keeps what it has, whatever byte a kill falls on."""

import json

import pytest

from openrlhf_math.distill.journal import Journal
from openrlhf_math.errors import UserError

RECORDS = {("a", 0): {"content": "héllo\n"}, ("a", 1): {"content": ""}, ("b", 0): {"content": "x" * 5000}}


@pytest.fixture
def path(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    for (key, attempt), record in RECORDS.items():
        journal.append(key, attempt, record)
    journal.close()
    return tmp_path / "journal.jsonl"


def test_what_is_written_is_read_back(path):
    journal = Journal(path)
    assert len(journal) == 3 and ("a", 1) in journal and ("b", 1) not in journal
    for (key, attempt), record in RECORDS.items():
        assert journal.read(key, attempt) == {"key": key, "attempt": attempt} | record
    with pytest.raises(KeyError):
        journal.read("c", 0)
    journal.close()


def test_cut_at_any_byte_it_keeps_the_whole_lines_and_goes_on(path):
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
        (b"{nonsense}\n", "journal.jsonl:2: the line is no attempt; delete it"),
        (b"[1, 2]\n", "journal.jsonl:2: the line is no attempt"),
        (b"\x00\x00\n", "journal.jsonl:2: the line is no attempt"),
        (b'{"key": "a", "attempt": 0}\n', "journal.jsonl:2: that attempt stands there twice"),
    ],
)
def test_a_line_broken_otherwise_is_named(path, line, sentence):
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + line + lines[1])
    before = path.read_bytes()
    with pytest.raises(UserError, match=sentence):
        Journal(path)
    assert path.read_bytes() == before


def test_one_run_at_a_time(path):
    journal = Journal(path)
    with pytest.raises(UserError, match="another run is at work there"):
        Journal(path)
    journal.close()
    Journal(path).close()


def test_no_attempt_is_written_twice(path):
    journal = Journal(path)
    with pytest.raises(ValueError, match="in the journal already"):
        journal.append("a", 0, {})
    journal.close()
    assert len([json.loads(line) for line in path.read_text().splitlines()]) == 3
