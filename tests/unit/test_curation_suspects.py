"""`openrlhf-math curate --judge-base-url` against a real server on loopback."""

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from chat_server import ChatServer

from openrlhf_math.cli import main
from openrlhf_math.curation import inputs, pipeline
from openrlhf_math.endpoint import client as endpoint

STORY = "Tom has {} red boxes and buys {} more blue boxes at the market. How many boxes does he have?"
ROWS = [{"problem": STORY.format(n, 7 * n), "answer": str(8 * n)} for n in range(3, 23)]
# A copy of the row with 4 boxes, in other words: whether it stays depends on whether that row does.
ROWS.append({"problem": STORY.format(4, 28).replace("buys", "purchases"), "answer": "32"})
SAME, ODD = {4, 9, 22}, {5}  # boxes of the rows that the server calls the benchmark's, and of those it says nothing on
KEY = "sk-judge-0123456789"


class Server(ChatServer):
    """Answers by SAME. before(number): called before a reply, which has the status it returns."""

    def __init__(self, before=lambda number: 200, same=frozenset(SAME)):
        self.asked, self.models, self.bodies = Counter(), Counter(), []

        def answer(body, headers):
            first, second = re.findall(r"<(?:first|second)>\n(.*?)\n</", body["messages"][0]["content"], re.S)
            assert first == STORY.format(100, 700) and headers["Authorization"] == f"Bearer {KEY}"
            boxes = int(re.search(r"\d+", second)[0])
            self.bodies.append(body)
            code = before(len(self.bodies))
            if code == 200:
                self.asked[second] += 1
                self.models[body["model"]] += 1
            is_same = boxes in same and "purchases" not in second
            return code, "I would rather not say." if boxes in ODD else json.dumps({"same": is_same})

        super().__init__(answer)


@pytest.fixture(autouse=True)
def small_and_at_once(monkeypatch, tmp_path):
    monkeypatch.setattr(inputs, "PIECE_ROWS", 7)
    monkeypatch.setattr(pipeline, "KEYS_A_RANGE", 200)
    monkeypatch.setattr(endpoint, "backoff", lambda number: 0.0)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for name, rows in (("rows", ROWS), ("benchmark", [{"problem": STORY.format(100, 700)}])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def command(tmp_path, url, *arguments, name="out", model="judge") -> tuple[list[str], Path]:
    output = tmp_path / name
    flags = ["--source", tmp_path / "rows.jsonl", "--benchmark", f"b={tmp_path / 'benchmark.jsonl'}"]
    judge = ["--judge-base-url", url, "--judge-model", model] if url else []
    return ["curate", *map(str, [*flags, *judge, *arguments, "--output", output, "--workers", 0])], output


def curate(tmp_path, url, *arguments, **names) -> tuple[int, Path]:
    words, output = command(tmp_path, url, *arguments, **names)
    return main(words), output


def report(output: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (output / "reports" / f"{name}.jsonl").read_text().splitlines()]


def boxes_of(output: Path) -> list[int]:
    rows = [row for path in sorted((output / "data").iterdir()) for row in pq.read_table(path).to_pylist()]
    return [int(re.search(r"\d+", row["problem"])[0]) for row in rows]


def digest(folder: Path) -> dict[str, str]:
    """Of every file, without the address of the server."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {
        str(path.relative_to(folder)): hashlib.sha256(re.sub(rb"127.0.0.1:\d+", b"", path.read_bytes())).hexdigest()
        for path in files
    }


def test_rows_judged_equal_are_dropped_and_others_keep_the_verdict(tmp_path, capsys):
    with Server() as server:
        code, output = curate(tmp_path, server.url, "--judge-extra-body", '{"top_p": null, "effort": "low"}')
        assert code == 0 and server.asked == dict.fromkeys([row["problem"] for row in ROWS], 1)
    assert {(body["model"], body["temperature"], body["effort"], "top_p" in body) for body in server.bodies} == {
        ("judge", 0.0, "low", False)
    }
    # The dropped rows do not count as originals: the copy of the row with 4 boxes stays.
    assert boxes_of(output) == [n for n in range(3, 23) if n not in SAME] + [4]
    assert report(output, "duplicates") == []
    counts = json.loads((output / "reports/counts.json").read_text())
    assert counts["judged"] == {
        "pairs": 21, "same": 3, "different": 17, "unjudged": 1, "by_benchmark": {"b": 3}, "pieces": {"0": 2, "2": 1},
    }  # fmt: skip
    assert ["judged: problems of benchmarks", 18] in counts["steps"]
    assert (counts["written"], counts["suspects"], counts["contaminated"]) == (18, 18, {})
    hits = {hit["row"]: (hit["dropped"], hit["judged"]) for hit in report(output, "contamination")}
    same = {n - 2: (True, "same") for n in SAME}
    assert hits == dict.fromkeys(range(1, 22), (False, "different")) | {3: (False, "unjudged")} | same
    suspects = {hit["row"]: hit for hit in report(output, "suspects")}
    assert set(suspects) == set(range(1, 22)) - set(same)
    assert [row for row, hit in suspects.items() if "unjudged_because" in hit] == [3]
    assert "21 suspects were judged by judge: 3 dropped, 17" in capsys.readouterr().out
    card = (output / "README.md").read_text()
    assert "21 suspects were judged by judge: 3 are" in card and "| b | 1 | 0 | 3 |" in card
    assert f"--judge-base-url {server.url} --judge-model judge --judge-extra-body" in card


def test_key_reaches_no_file(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    monkeypatch.delenv("OPENAI_API_KEY")
    with Server() as server:
        assert curate(tmp_path, server.url, "--judge-api-key-env", "MY_KEY")[0] == 0
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert files and not any(KEY.encode() in path.read_bytes() for path in files)


def test_run_killed_while_judging_ends_with_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "PIECE_ROWS", 10_000)  # as in the process that is killed
    with Server() as server:
        _, undisturbed = curate(tmp_path, server.url, "--judge-concurrency", 1)
    answered, let_go = threading.Event(), threading.Event()

    def before(number):
        if number == 8 and not let_go.is_set():
            answered.set()
            let_go.wait(60)
        return 200

    with Server(before) as server:
        words, output = command(tmp_path, server.url, "--judge-concurrency", 1, name="killed")
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        killed = subprocess.Popen([sys.executable, "-m", "openrlhf_math", *words], env=environment)
        try:
            assert answered.wait(120)
            journal, end = output / ".work/answers.jsonl", time.monotonic() + 60
            while journal.read_bytes().count(b"\n") < 7 and time.monotonic() < end:
                time.sleep(0.01)
        finally:
            killed.kill()
            killed.wait()
            let_go.set()
        assert len(journal.read_bytes().splitlines()) == 7
        before_kill = set(list(server.asked)[:7])
        assert main(words) == 0
        assert {server.asked[problem] for problem in before_kill} == {1}
        assert set(server.asked) == {row["problem"] for row in ROWS}
    assert not (output / ".work").exists()
    assert digest(output) == digest(undisturbed)


@pytest.mark.parametrize("stage", ["read_piece", "pair_range", "verify_piece", "write_piece"])
def test_run_interrupted_in_any_stage_repeats_no_request(stage, tmp_path, monkeypatch):
    done = getattr(pipeline, stage)

    def cut_short(*arguments):
        if arguments[-1] == 1:
            raise KeyboardInterrupt
        return done(*arguments)

    with Server() as server:
        _, undisturbed = curate(tmp_path, server.url)
        server.asked.clear()
        with monkeypatch.context() as patch:
            patch.setattr(pipeline, stage, cut_short)
            assert curate(tmp_path, server.url, name="cut")[0] == 130
        assert curate(tmp_path, server.url, name="cut")[0] == 0
        assert set(server.asked.values()) == {1} and len(server.asked) == 21
    assert digest(tmp_path / "cut") == digest(undisturbed)


@pytest.mark.parametrize("first", [None, "earlier"])
def test_new_judge_repeats_only_its_stage(first, tmp_path, monkeypatch):
    with Server(same={6, 7}) as server:
        _, undisturbed = curate(tmp_path, server.url, model="later")
    with Server() as server, monkeypatch.context() as patch:
        patch.setattr(pipeline, "card", lambda *arguments: 1 / 0)  # the last step of all
        with pytest.raises(ZeroDivisionError):
            curate(tmp_path, server.url if first else None, model=first, name="changed")
    with Server(same={6, 7}) as server, monkeypatch.context() as patch:
        patch.setattr(pipeline, "read_piece", str.upper)
        assert curate(tmp_path, server.url, model="later", name="changed")[0] == 0
        assert server.models == {"later": 21}
    assert digest(tmp_path / "changed") == digest(undisturbed)
    assert 4 in boxes_of(undisturbed) and 6 not in boxes_of(undisturbed)


def test_finished_run_refuses_another_judge_but_not_another_address(tmp_path, capsys):
    with Server() as server:
        _, output = curate(tmp_path, server.url)
        before = digest(output)
        assert curate(tmp_path, server.url, model="another")[0] == 2
        assert "other judge" in capsys.readouterr().err
        assert curate(tmp_path, "http://127.0.0.1:1/v1", "--judge-concurrency", 3)[0] == 0
    assert digest(output) == before


def test_dead_endpoint_ends_the_run_and_another_address_resumes_it(tmp_path, capsys, monkeypatch):
    assert curate(tmp_path, "http://127.0.0.1:1/v1")[0] == 2
    assert "--judge-base-url http://127.0.0.1:1/v1: no connection" in capsys.readouterr().err
    assert not (tmp_path / "out/data").exists() and not (tmp_path / "out/README.md").exists()
    with Server() as server, monkeypatch.context() as patch:
        patch.setattr(pipeline, "read_piece", str.upper)
        assert curate(tmp_path, server.url)[0] == 0


@pytest.mark.parametrize("code, requests", [(500, 5), (400, 1)])
def test_failed_pair_stays_a_suspect(code, requests, tmp_path):
    with Server(lambda number: code if 3 <= number < 3 + requests else 200) as server:
        run, output = curate(tmp_path, server.url, "--judge-concurrency", 1)
    assert run == 0 and len(server.bodies) == 20 + requests
    unjudged = {
        hit["row"]: hit["unjudged_because"] for hit in report(output, "suspects") if hit["judged"] == "unjudged"
    }
    assert str(code) in " ".join(unjudged.values()) and len(unjudged) in (1, 2) and 3 in unjudged


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--judge-model", "m"], "--judge-model needs --judge-base-url"),
        (["--judge-base-url", "http://127.0.0.1:1/v1"], "--judge-base-url needs --judge-model"),
        (["--judge-base-url", "nowhere", "--judge-model", "m"], "--judge-base-url nowhere"),
        (["--judge-base-url", "http://127.0.0.1:1/v1", "--judge-model", "m"], "name one with --benchmark"),
        (
            ["--judge-base-url", "http://me:pass@127.0.0.1:1/v1", "--judge-model", "m"],
            "--judge-base-url http://127.0.0.1: give",
        ),
        (
            ["--judge-base-url", "http://127.0.0.1:1/v1", "--judge-model", "m", "--judge-api-key-env", "NO_SUCH_KEY"],
            "--judge-api-key-env NO_SUCH_KEY",
        ),
        (
            ["--judge-base-url", "http://127.0.0.1:1/v1", "--judge-model", "m", "--judge-concurrency", "0"],
            "--judge-concurrency 0",
        ),
    ],
)
def test_invalid_flags_are_refused_before_reading(arguments, message, tmp_path, capsys):
    rows = str(tmp_path / "rows.jsonl")
    assert main(["curate", "--source", rows, "--output", str(tmp_path / "out"), "--workers", "0", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
