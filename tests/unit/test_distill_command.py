"""`openrlhf-math distill`: from problems to a dataset, and bad input refused in one sentence before any request."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import datasets
import pytest
import yaml
from faulty_endpoint import FaultyEndpoint
from pyarrow import parquet

from openrlhf_math import __version__
from openrlhf_math.cli import main
from openrlhf_math.data.conversations import find_layout
from openrlhf_math.data.tiny_world.problems import distinct_stories
from openrlhf_math.data.tiny_world.server import read_story, teach
from openrlhf_math.distill.teachers import Reply
from openrlhf_math.endpoint.reply import Failure

STORIES = distinct_stories(40, seed=5)
SCRIPT = Path(__file__).parents[2] / "examples" / "distill_r1.sh"


def row(story, **more) -> dict:
    return {"problem": story.text, "answer": str(story.answer), "difficulty": story.difficulty} | more


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


@pytest.fixture
def problems(tmp_path):
    return write(tmp_path / "problems.jsonl", [row(story, note="") for story in STORIES])


@pytest.fixture
def server():
    with FaultyEndpoint() as running:
        yield running


def distill(server, problems, output, *flags) -> int:
    command = ("distill", "--problems", problems, "--output", output, "--model", "tiny-teacher")
    return main([*map(str, command), "--base-url", server.url, *map(str, flags)])


def report_of(output: Path) -> dict:
    return json.loads((output / "report.json").read_text())


def test_output_files(server, problems, tmp_path, capsys):
    output = tmp_path / "run"
    flags = ("--attempts", 3, "--max-tokens", 150, "--license", "problems=mit")
    assert distill(server, problems, output, *flags) == 0
    printed = capsys.readouterr().out
    report, rows = report_of(output), datasets.load_dataset(str(output / "dataset"), split="train")

    assert printed.count("Yield by") == 2 and "truncated" in printed and str(output / "dataset") in printed
    counts = report["counts"]
    assert counts["problems asked"] == 40 and counts["attempts"] == 120 == sum(report["outcomes"].values())
    assert {"correct", "wrong", "truncated", "two answers", "no boxed answer"} == set(report["outcomes"])
    assert list(report["by_difficulty"]) == ["2", "3", "4"] and list(report["by_source"]) == ["problems"]
    for name in ("problems", "attempts", "refused", "correct", "kept"):
        assert sum(group[name] for group in report["by_difficulty"].values()) == report["total"][name]

    assert len(rows) == counts["kept"] > 30
    golds = {story.text: str(story.answer) for story in STORIES}
    assert all(golds[one["problem"]] == one["answer"] for one in rows)
    assert all(one["response"].startswith("<think>\n") for one in rows)
    assert all(f"\\boxed{{{one['answer']}}}" in one["response"] for one in rows)
    assert set(rows["license"]) == {"mit"} and set(rows["teacher"]) == {"tiny-teacher"}
    order = [story.text for story in STORIES]
    places = [(order.index(one["problem"]), one["attempt"]) for one in rows]
    assert places == sorted(set(places)), "in the order of the problems, none twice"

    layout = find_layout("dataset", rows, (None, None), False)
    assert [[turn.content for turn in layout.turns(one)] for one in rows] == [
        [one["problem"], one["response"]] for one in rows
    ], "as `sft` reads it"
    verdicts = [json.loads(line) for line in (output / "verdicts.jsonl").read_text().splitlines()]
    assert len(verdicts) == 120 and sum(one["outcome"] == "correct" for one in verdicts) == report["total"]["correct"]


def test_card(server, problems, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/openrlhf-math", "distill", "--license", "b|c=see there"])
    output = tmp_path / "run"
    rows = [row(story, source=("a", "b|c")[index % 2]) for index, story in enumerate(STORIES)]
    write(problems, [*rows, rows[0], row(STORIES[0]) | {"problem": "What?", "answer": ""}])
    assert distill(server, problems, output, "--license", "a=mit", "--keep", "best", "--keep-n", 1) == 0
    card = (output / "dataset" / "README.md").read_text()
    header = yaml.safe_load(card.split("---\n")[1])
    assert header["license"] == "other"
    for part in (
        "| problems read | 42 |", "| doubles left out | 1 |", "| gold answer not parsable, left out | 1 |",
        "| problems asked | 40 |", "| a | mit |", "| b\\|c | not stated |", "| keep_n | 1 |",
        f"| openrlhf_math | {__version__} |",
        "openrlhf-math distill --license 'b|c=see there'",
    ):  # fmt: skip
        assert part in card, part
    (reject,) = [json.loads(line) for line in (output / "rejects.jsonl").read_text().splitlines()]
    assert reject["row"] == 42 and "cannot be parsed" in reject["reason"]


def test_json_is_all_that_is_printed(server, problems, tmp_path, capsys):
    assert distill(server, problems, tmp_path / "run", "--max-problems", 3, "--json") == 0
    assert json.loads(capsys.readouterr().out) == report_of(tmp_path / "run")


@pytest.mark.parametrize(
    ("rule", "most"),
    [("verified", 3), ("all", 4), ("shortest", 1), ("longest", 1), ("best", 2), (f"{__name__}.longest", 1)],
)
def test_another_rule_sends_no_request(rule, most, server, problems, tmp_path):
    output = tmp_path / "run"
    assert distill(server, problems, output) == 0
    asked = server.requests
    assert distill(server, problems, output, "--keep", rule) == 0
    assert server.requests == asked
    problems_kept = datasets.Dataset.from_parquet(str(output / "dataset/data/train.parquet"))["problem"]
    assert max(problems_kept.count(text) for text in set(problems_kept)) == most


def longest(attempts, n):
    return sorted(attempts, key=lambda attempt: attempt.tokens)[-1:]


def invent(attempts, n):
    return ["2+2=4"]


def test_rule_that_adds_traces_is_refused(server, problems, tmp_path, capsys):
    assert distill(server, problems, tmp_path / "run", "--keep", f"{__name__}.invent") == 2
    assert "it must return a list of what it is given" in capsys.readouterr().err
    assert not list((tmp_path / "run").glob("dataset/data/*"))


def test_more_attempts_or_problems_request_only_new_ones(server, problems, tmp_path):
    output = tmp_path / "run"
    assert distill(server, problems, output, "--max-problems", 10, "--attempts", 1) == 0
    assert server.requests == 10
    assert distill(server, problems, output, "--max-problems", 20, "--attempts", 2) == 0
    assert server.requests == 40 and set(server.asked.values()) == {1}
    assert distill(server, problems, output, "--max-problems", 10, "--attempts", 1) == 0
    assert server.requests == 40 and report_of(output)["counts"]["attempts"] == 10


def test_each_attempt_has_a_seed_unless_disabled(server, problems, tmp_path):
    assert distill(server, problems, tmp_path / "a", "--max-problems", 5) == 0
    assert len({seed for _, seed in server.asked}) == 20
    server.asked.clear()
    assert distill(server, problems, tmp_path / "b", "--max-problems", 5, "--no-seed") == 0
    assert {seed for _, seed in server.asked} == {None}


def test_chat_problems_stay_chats(server, problems, tmp_path):
    system = {"role": "system", "content": "You are a mathematician."}
    chats = [row(story) | {"problem": [system, {"role": "user", "content": story.text}]} for story in STORIES[:5]]
    write(problems, [*chats, row(STORIES[6])])
    assert distill(server, problems, tmp_path / "run") == 0
    rows = datasets.load_dataset(str(tmp_path / "run/dataset"), split="train")
    assert rows[0]["problem"] == [system, {"content": rows[0]["problem"][1]["content"], "role": "user"}]
    turns = find_layout("dataset", rows, (None, None), False).turns(rows[0])
    assert [(turn.role, turn.learned) for turn in turns] == [("system", False), ("user", False), ("assistant", True)]
    assert turns[0].content == system["content"] and turns[-1].content == rows[0]["response"]


def test_nothing_kept_is_a_reported_failure(server, problems, tmp_path, capsys):
    assert distill(server, problems, tmp_path / "run", "--max-tokens", 5) == 1
    assert "no trace was kept" in capsys.readouterr().err
    assert parquet.read_metadata(tmp_path / "run/dataset/data/train.parquet").num_rows == 0


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--base-url", ""), "--base-url is missing"),
        (("--base-url", "localhost:8000/v1"), "--base-url localhost:8000/v1: give"),
        (("--base-url", "http://me:secret@host/v1"), "--base-url http://host: give"),
        (("--base-url", "http://host/v1?key=secret"), "--base-url http://host: give"),
        (("--api-key-env", "NOT_SET"), "--api-key-env NOT_SET: give"),
        (("--api-key-env", "BROKEN_KEY"), "--api-key-env BROKEN_KEY: give"),
        (("--attempts", "0"), "--attempts 0: give 1 or more"),
        (("--temperature", "0"), "--attempts 4: greedy decoding gives the same trace every time"),
        (("--temperature", "nan"), "--temperature nan"),
        (("--top-p", "0"), "--top-p 0.0"),
        (("--max-tokens", "0"), "--max-tokens 0: give 1 or more"),
        (("--keep-n", "0"), "--keep-n 0: give 1 or more"),
        (("--keep", "aunt"), "choose one of all, verified, shortest, longest, best"),
        (("--max-attempts", "3"), "--max-attempts 3: give --attempts (4) or more"),
        (("--attempts", "1", "--max-attempts", "2", "--temperature", "0"), "--max-attempts 2: greedy decoding"),
        (("--questions", "longest"), "--questions longest: give all, or longest:N"),
        (("--questions", "longest:0"), "--questions longest:0: give all, or longest:N"),
        (("--thinking-tags", "<t>"), "--thinking-tags <t>: choose one of think, mistral, thinking, thought, or give"),
        (("--teacher", "aunt"), "--teacher aunt: there is none of that name; choose one of endpoint, engine"),
        (("--teacher", "engine", "--model", "./nowhere"), "--model ./nowhere: there is no such directory"),
        (("--concurrency", "0"), "--concurrency 0: give 1 or more"),
        (("--tries", "0"), "--tries 0: give 1 or more"),
        (("--requests-per-minute", "0"), "--requests-per-minute 0.0: give more than 0"),
        (("--tokens-per-minute", "-1"), "--tokens-per-minute -1.0: give more than 0"),
        (("--request-timeout", "nan"), "--request-timeout nan: give more than 0"),
        (("--extra-body", '{"stream": true}'), '--extra-body {"stream": true}: give'),
        (("--license", "mit"), "--license mit: give SOURCE=LICENCE"),
        (("--problems", "missing.jsonl"), "missing.jsonl: there is no such file"),
        (("--problem-key", "question"), "has no column 'question', only problem, answer, difficulty, note; name"),
        (("--answer-key", "note"), "none of the gold answers can be parsed, the first is ''"),
        (("--max-problems", "0"), "--max-problems 0 leaves no problem"),
        (("--max-problems", "-1"), "--max-problems -1 leaves no problem"),
        (("--engines", "-1"), "--engines -1: give 0"),
        (("--tensor-parallel", "0"), "--tensor-parallel 0: give 1 or more"),
        (("--output", "/proc/run"), "--output /proc/run cannot be written"),
    ],
)  # fmt: skip
def test_bad_input(flags, sentence, server, problems, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("BROKEN_KEY", "secret\nkey")
    assert distill(server, problems, tmp_path / "run", *flags) == 2
    error = capsys.readouterr().err
    assert sentence in error and len(error.strip().splitlines()) == 1 and "secret" not in error
    assert server.requests == 0 and not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["{", "[1]", "3"])
def test_invalid_extra_body(text, server, problems, tmp_path, capsys):
    assert distill(server, problems, tmp_path / "run", "--extra-body", text) == 2
    assert "--extra-body" in capsys.readouterr().err


class Parrot:
    """A custom teacher."""

    lanes = 3

    def __init__(self, settings):
        self.failed_tries, self.settings = Counter(), settings

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exception):
        pass

    async def answer(self, question):
        if question.attempt == 1:
            raise Failure("it would not say")
        return Reply(teach(read_story(question.messages[-1]["content"]), 0, flawed=0.0), "", "stop", None)


def test_custom_teacher(problems, tmp_path):
    command = ("distill", "--problems", problems, "--output", tmp_path / "run", "--teacher", f"{__name__}.Parrot")
    assert main([*map(str, command), "--model", "polly", "--attempts", "2"]) == 0
    report = report_of(tmp_path / "run")
    assert report["outcomes"] == {"correct": 40, "set aside": 40}
    assert report["by_difficulty"]["2"]["yield"] == 1.0


def test_full_disk_is_reported_and_written_data_kept(server, problems, tmp_path):
    """The journal's last line is torn where the space ended."""
    output = tmp_path / "run"
    flags = f"--problems {problems} --output {output} --model tiny-teacher --base-url {server.url}"
    script = f"ulimit -f 8; {sys.executable} -m openrlhf_math distill {flags}"
    full = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert full.returncode == 2 and "cannot be written (File too large)" in full.stderr
    assert "Traceback" not in full.stderr
    torn = (output / "journal.jsonl").read_bytes()
    assert torn and not torn.endswith(b"\n")
    assert distill(server, problems, output) == 0
    assert (output / "journal.jsonl").read_bytes().startswith(torn[: torn.rindex(b"\n") + 1])
    assert distill(server, problems, tmp_path / "whole") == 0
    name = "dataset/data/train.parquet"
    assert (output / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_other_settings_in_the_same_directory_are_refused(server, problems, tmp_path, capsys):
    output = tmp_path / "run"
    assert distill(server, problems, output, "--max-problems", 2) == 0
    before = (output / "journal.jsonl").read_bytes()
    assert distill(server, problems, output, "--max-problems", 2, "--temperature", 1) == 2
    assert "holds attempts of other settings (--temperature was 0.6, is 1.0)" in capsys.readouterr().err
    assert (output / "journal.jsonl").read_bytes() == before


def test_dry_run_sends_and_writes_nothing(server, problems, tmp_path, capsys):
    assert distill(server, problems, tmp_path / "run", "--dry-run") == 0
    printed = capsys.readouterr().out
    assert "problems: 40 (0 doubles" in printed and "attempts: 160, 4 a problem, at most 2,621,440 tokens" in printed
    assert server.requests == 0 and not (tmp_path / "run").exists()


def test_example_script_resolves(problems, tmp_path):
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PROBLEMS": str(problems), "BASE_URL": "http://127.0.0.1:9/v1",
    }  # fmt: skip
    here = sorted(tmp_path.iterdir())
    result = subprocess.run([SCRIPT, "--dry-run"], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert result.returncode == 0, result.stderr
    teacher = "teacher: deepseek-ai/DeepSeek-R1 at http://127.0.0.1:9/v1"
    for part in ("problems: 40", teacher, "keep: verified, style think", "up to 16 while none is correct"):
        assert part in result.stdout
    assert sorted(tmp_path.iterdir()) == here


@pytest.mark.parametrize("command", ["solve", "distill"])
def test_problem_count_may_exceed_64_bits(server, problems, tmp_path, command):
    given = [
        "--problems",
        str(problems),
        "--max-problems",
        "9" * 26,
        "--base-url",
        server.url,
        "--model",
        "tiny-teacher",
    ]
    more = ["--attempts", "1", "--workers", "1"] if command == "solve" else ["--dry-run"]
    assert main([command, *given, "--output", str(tmp_path / "out"), *more]) == 0
