"""`solve --output`: rows that an earlier run left, their settings and budget, and files that cannot be it."""

import errno
import fcntl
import json
import os
import subprocess
import sys

import pytest
from faulty_endpoint import FaultyEndpoint

from openrlhf_math.cli import main
from openrlhf_math.data.tiny_world.problems import distinct_stories

STORIES = distinct_stories(4, seed=3)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    with FaultyEndpoint() as server:
        yield server


@pytest.fixture
def problems(tmp_path):
    path = tmp_path / "problems.jsonl"
    path.write_text("".join(json.dumps({"problem": one.text, "answer": str(one.answer)}) + "\n" for one in STORIES))
    return path


def solve(server, problems, output, *flags) -> int:
    given = ("--model", "tiny", "--base-url", server.url, "--attempts", 3, "--seed", 1, "--problems", problems)
    return main(["solve", *map(str, given), "--output", str(output), *map(str, flags)])


def jsonl(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def keep(output, rows: int, torn: bytes = b"") -> None:
    """As a kill leaves it."""
    lines = output.read_bytes().split(b"\n")[:rows]
    output.write_bytes(b"".join(line + b"\n" for line in lines) + torn)


def same(rows) -> list[dict]:
    return sorted(({**row, "seconds": 0} for row in rows), key=lambda row: row["number"])


@pytest.mark.parametrize("torn", [b"", b'{"number": 3, "prob', '{"number": 3, "problem": "é'.encode()[:-1]])
def test_killed_run_has_the_rows_of_a_whole_one(server, problems, tmp_path, torn):
    output = tmp_path / "solved.jsonl"
    assert solve(server, problems, output) == 0
    whole, asked = same(jsonl(output)), server.requests
    keep(output, 2, torn)
    assert solve(server, problems, output, "--resume") == 0
    assert same(jsonl(output)) == whole and server.requests < 2 * asked
    assert all(row["settings"]["seed"] == 1 and row["settings"]["attempts"] == 3 for row in whole)


@pytest.mark.parametrize(
    "other",
    [
        b"notes that are kept\nof another kind\n",
        b"one line without an end",
        b"%PDF-1.7\n\xff\xfe\x00\n",
        b"[" * 10**5 + b"\n",
        b'{"number": 0, "prob\n',
    ],
)
def test_file_that_is_not_of_solve_is_kept_and_named(server, problems, tmp_path, capsys, other):
    output = tmp_path / "notes"
    output.write_bytes(other)
    assert solve(server, problems, output, "--resume") == 2
    assert "line 1" in capsys.readouterr().err
    assert output.read_bytes() == other and server.requests == 0


def test_line_that_is_broken_between_rows_is_named_and_nothing_is_lost(server, problems, tmp_path, capsys):
    output = tmp_path / "solved.jsonl"
    assert solve(server, problems, output) == 0
    lines, asked = output.read_bytes().splitlines(keepends=True), server.requests
    for bad, line in [(lines[1][:40] + b"\n", 2), (lines[0], 2)]:  # cut, and the same problem twice
        before = b"".join([lines[0], bad, *lines[2:]])
        output.write_bytes(before)
        assert solve(server, problems, output, "--resume") == 2
        assert f"line {line}" in capsys.readouterr().err
        assert output.read_bytes() == before and server.requests == asked


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--seed", 2], "--seed was 1, is 2"),
        (["--temperature", 0.5], "--temperature was 0.7, is 0.5"),
        (["--attempts", 4], "--attempts was 3, is 4"),
        (["--model", "other"], "--model was 'tiny', is 'other'"),
        (["--instruction", ""], "--instruction"),
        (["--attempt-concurrency", 1], "--attempt-concurrency was None, is 1"),
        (["--extra-body", '{"a": 1}'], "--extra-body"),
    ],
)
def test_resume_with_other_settings_is_refused(server, problems, tmp_path, capsys, flags, named):
    output = tmp_path / "solved.jsonl"
    assert solve(server, problems, output) == 0
    keep(output, 2)
    before, asked = output.read_bytes(), server.requests
    assert solve(server, problems, output, "--resume", *flags) == 2
    assert named in capsys.readouterr().err
    assert output.read_bytes() == before and server.requests == asked


def test_gold_answers_that_were_corrected_are_those_of_all_rows(server, problems, tmp_path):
    output = tmp_path / "solved.jsonl"
    assert solve(server, problems, output) == 0
    keep(output, 2)
    problems.write_text("".join(json.dumps({"problem": one.text, "answer": "77"}) + "\n" for one in STORIES))
    assert solve(server, problems, output, "--resume") == 0
    assert [row["gold"] for row in jsonl(output)] == ["77"] * 4


def test_limits_of_time_and_pace_may_change(server, problems, tmp_path):
    output = tmp_path / "solved.jsonl"
    assert solve(server, problems, output) == 0
    keep(output, 2)
    assert solve(server, problems, output, "--resume", "--seconds", 50, "--concurrency", 2, "--workers", 1) == 0
    assert len(jsonl(output)) == 4


def test_rows_of_an_earlier_version_are_kept_with_a_remark(server, problems, tmp_path, capsys):
    output = tmp_path / "solved.jsonl"
    assert solve(server, problems, output) == 0
    rows = jsonl(output)
    for row in rows[:2]:
        del row["settings"]
    output.write_text("".join(json.dumps(row) + "\n" for row in rows[:2]))
    assert solve(server, problems, output, "--resume") == 0
    assert "earlier version" in capsys.readouterr().err
    assert [row["number"] for row in same(jsonl(output))] == [0, 1, 2, 3]


def test_other_weights_at_the_same_place_are_refused(tmp_path):
    from argparse import Namespace

    from openrlhf_math.cli.solve_output import settings_of

    model = tmp_path / "model"
    model.mkdir()
    args = Namespace(model=str(model), base_url=None, scorer_model=None, seed=1)
    kept = []
    for weights in (b"one", b"two"):
        (model / "model.safetensors").write_bytes(weights)
        kept.append(settings_of(args))
    assert kept[0] != kept[1] and kept[0]["seed"] == 1


def test_total_tokens_are_those_of_all_runs_together(server, problems, tmp_path, capsys):
    output = tmp_path / "solved.jsonl"
    assert solve(server, problems, output) == 0
    keep(output, 2)
    used = sum(row["tokens_used"] for row in jsonl(output))
    assert solve(server, problems, output, "--resume", "--total-tokens", used) == 2
    assert f"have used {used}" in capsys.readouterr().err
    assert solve(server, problems, output, "--resume", "--total-tokens", used + 2) == 0
    late = same(jsonl(output))[2:]
    assert "tokens" in {row["ended"] for row in late} and sum(len(row["tokens"]) for row in late) < 6


def test_problem_with_a_line_separator_of_unicode_is_kept(server, tmp_path):
    problems, output = tmp_path / "set.jsonl", tmp_path / "solved.jsonl"
    texts = [f"{one.text}{mark}Take care." for one, mark in zip(STORIES, "\u2028\x85\u2029\x1c", strict=True)]
    problems.write_text("".join(json.dumps({"problem": text}) + "\n" for text in texts))
    assert solve(server, problems, output) == 0
    asked = server.requests
    assert solve(server, problems, output, "--resume") == 0
    assert server.requests == asked and len(output.read_text(encoding="utf-8").splitlines()) == 4


def test_standard_input_has_a_problem_a_line(server, monkeypatch, capsys):
    import io

    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{STORIES[0].text}\u2028\x0bx\n\n{STORIES[1].text}\n"))
    flags = ("--model", "tiny", "--base-url", server.url, "--attempts", "1", "--json")
    assert main(["solve", "-", *flags]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_output_that_another_process_has_is_refused(server, problems, tmp_path, capsys):
    output = tmp_path / "solved.jsonl"
    with output.open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        for flags in ([], ["--resume"]):
            assert solve(server, problems, output, *flags) == 2
            assert "another process" in capsys.readouterr().err
    assert solve(server, problems, output) == 0, "an empty file is none"


@pytest.mark.parametrize("replaced", [True, False])
def test_file_that_loses_its_name_before_it_is_locked_is_refused(tmp_path, monkeypatch, replaced):
    from openrlhf_math.cli import solve_output
    from openrlhf_math.errors import UserError

    output, lock = tmp_path / "solved.jsonl", fcntl.flock

    def late(file, how):
        output.unlink()
        if replaced:
            output.write_bytes(b"")
        lock(file, how)

    monkeypatch.setattr(solve_output.fcntl, "flock", late)
    with pytest.raises(UserError), solve_output.opened(output, False, ["1+1?"], ["2"], {}):
        pass


@pytest.mark.parametrize("flags", [[], ["--resume"]])
@pytest.mark.parametrize("kind", ["directory", "pipe", "device", "no directory"])
def test_what_is_no_file_is_refused(server, problems, tmp_path, capsys, kind, flags):
    output = tmp_path / "there"
    if kind == "directory":
        output.mkdir()
    elif kind == "pipe":
        os.mkfifo(output)
    else:
        output = "/dev/null" if kind == "device" else tmp_path / "none" / "there"
    assert solve(server, problems, output, *flags) == 2
    assert "--output" in capsys.readouterr().err and server.requests == 0


def test_output_behind_a_link_is_written_there(server, problems, tmp_path):
    place, link = tmp_path / "place.jsonl", tmp_path / "link.jsonl"
    link.symlink_to(place)
    assert solve(server, problems, link) == 0
    keep(place, 1)
    assert solve(server, problems, link, "--resume") == 0
    assert link.is_symlink() and len(jsonl(place)) == 4


def test_run_that_is_refused_leaves_no_file(server, problems, tmp_path):
    output = tmp_path / "solved.jsonl"
    server.fault = lambda number, question: "401"
    assert solve(server, problems, output) == 2
    assert not output.exists()


def test_rows_are_utf_8_whatever_the_locale(server, tmp_path):
    problems, output = tmp_path / "set.jsonl", tmp_path / "solved.jsonl"
    problems.write_text(json.dumps({"problem": STORIES[0].text + " é😀"}) + "\n")
    environment = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    environment.pop("HOME", None)
    command = [sys.executable, "-m", "openrlhf_math", "solve", "--model", "tiny", "--base-url", server.url]
    flags = ["--attempts", "1", "--problems", str(problems), "--output", str(output)]
    for more in ([], ["--resume"], ["--resume", "--json"]):
        done = subprocess.run([*command, *flags, *more], env=environment, capture_output=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout) == jsonl(output)[0]
    assert "é😀" in jsonl(output)[0]["problem"]


def test_link_that_leads_nowhere_is_refused_and_one_to_a_new_file_is_not(server, problems, tmp_path, capsys):
    nowhere, new = tmp_path / "nowhere.jsonl", tmp_path / "new.jsonl"
    nowhere.symlink_to(tmp_path / "none" / "there")
    new.symlink_to(tmp_path / "there")
    assert solve(server, problems, nowhere) == 2 and "there is no directory" in capsys.readouterr().err
    assert solve(server, problems, new) == 0 and len(jsonl(tmp_path / "there")) == 4


def test_full_disk_is_named(server, problems, tmp_path, monkeypatch, capsys):
    from openrlhf_math.cli import solve_output

    class Full(solve_output.FileIO):
        """Takes 10 bytes, as a disk that has no more."""

        def write(self, data):
            if self.tell() >= 10:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(bytes(data[:10]))

    output = tmp_path / "solved.jsonl"
    monkeypatch.setattr(solve_output, "FileIO", Full)
    assert solve(server, problems, output) == 1
    assert str(output) in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    assert solve(server, problems, output, "--resume") == 0 and len(jsonl(output)) == 4


def test_write_that_takes_a_part_is_continued(server, problems, tmp_path, monkeypatch):
    from openrlhf_math.cli import solve_output

    class Slow(solve_output.FileIO):
        def write(self, data):
            return super().write(bytes(data[:7]))

    output = tmp_path / "solved.jsonl"
    monkeypatch.setattr(solve_output, "FileIO", Slow)
    assert solve(server, problems, output) == 0 and len(jsonl(output)) == 4


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_end_nothing_and_are_not_mistaken_for_the_file(server, problems, tmp_path, closed):
    output = tmp_path / "solved.jsonl"
    flags = f"--model tiny --base-url {server.url} --attempts 1 --problems '{problems}' --output '{output}'"
    command = f"'{sys.executable}' -m openrlhf_math solve {flags} {closed}"
    assert subprocess.run(["sh", "-c", command], timeout=60).returncode == 0
    assert [row["number"] for row in same(jsonl(output))] == [0, 1, 2, 3]
