"""`eval` with a model that writes its judgement as the scorer: a server on loopback, and the figures by hand."""

import json
import random
import subprocess
import sys

import pytest
from json_server import JsonServer

from openrlhf_math.cli import main
from openrlhf_math.endpoint import client

ANSWERS = [["2", "3", "2", "4"], ["5", "5", "6", "7"], ["8", "9", "9", "1"]]
GOLD = ["3", "6", "9"]
VOTES = 3


class Judge(JsonServer):
    """Says of a completion Yes with a probability that its text has. fault: of a request, the status of the reply."""

    def __init__(self, fault=lambda number: 200) -> None:
        self.fault, self.given, self.number = fault, {}, 0

        def reply(path, body, headers):
            self.number += 1
            status = self.fault(self.number)
            if status != 200:
                return status, {"error": {"message": "not now"}}
            text = body["messages"][0]["content"]
            yes = random.Random(f"{text} {body['seed']}").random() < 0.5
            problem, _, solution = (
                text.partition("\n\nCheck")[0].removeprefix("Problem:\n").partition("\n\nSolution:\n")
            )
            self.given.setdefault((problem, solution), []).append(yes)
            message = {"role": "assistant", "content": f"Hm.\nVerdict: {'Yes' if yes else 'No'}"}
            return 200, {"choices": [{"message": message, "finish_reason": "stop"}], "usage": {"completion_tokens": 5}}

        super().__init__(reply)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(client, "backoff", lambda number: 0.0)


@pytest.fixture
def completions(tmp_path):
    path = tmp_path / "made.jsonl"
    rows = [
        {"problem": f"{n}?", "gold": gold, "responses": [f"try {k}: \\boxed{{{a}}}" for k, a in enumerate(given)]}
        for n, (gold, given) in enumerate(zip(GOLD, ANSWERS, strict=True))
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def evaluate(completions, output, url, *flags) -> int:
    scorer = ("--scorer", "verdict", "--scorer-model", "judge", "--scorer-votes", VOTES, "--scorer-base-url", url)
    given = ("--completions", completions, "--output", output, "--workers", 1, "--tries", 2, "--concurrency", 1)
    return main([str(flag) for flag in ("eval", *given, *scorer, *flags)])


def test_scores_are_the_shares_of_yes(completions, tmp_path, capsys):
    output = tmp_path / "out"
    with Judge() as judge:
        assert evaluate(completions, output, judge.url) == 0
    rows = [json.loads(line) for line in (output / "completions.jsonl").read_text().splitlines()]
    shares = {name: sum(votes) / len(votes) for name, votes in judge.given.items()}
    assert len(rows) == 12 and all(len(votes) == VOTES for votes in judge.given.values())
    assert all(row["scores"] == pytest.approx(shares[row["problem"], row["response"]]) for row in rows)
    best, weighted = [], []
    for problem, gold in enumerate(GOLD):
        mine = [row for row in rows if row["problem_index"] == problem]
        totals = {answer: sum(row["scores"] for row in mine if row["answer"] == answer) for answer in ANSWERS[problem]}
        highest = [row["answer"] for row in mine if row["scores"] == max(row["scores"] for row in mine)]
        best.append(max(highest, key=lambda answer: ANSWERS[problem].count(answer)) == gold)
        weighted.append(max(totals, key=totals.__getitem__) == gold)
    summary = json.loads((output / "summary.json").read_text())
    assert (summary["scorer"], summary["scorer_model"], summary["unscored"]) == ("verdict", "judge", 0)
    assert summary["best_of_k"]["4"]["accuracy"] == pytest.approx(sum(best) / 3)
    assert summary["weighted_at_k"]["4"]["accuracy"] == pytest.approx(sum(weighted) / 3)


def test_only_missing_scores_are_requested_again(completions, tmp_path, capsys):
    output = tmp_path / "out"
    with Judge(lambda number: 500 if 20 <= number <= 24 else 200) as judge:
        assert evaluate(completions, output, judge.url) == 2
        assert "--scorer-base-url" in capsys.readouterr().err
        kept = (output / "scores.jsonl").read_bytes()
        assert 0 < kept.count(b"\n") < 12 and not (output / "summary.json").exists()
        judge.fault, before = lambda number: 200, judge.number
        assert evaluate(completions, output, judge.url) == 0
        assert judge.number - before == VOTES * (12 - kept.count(b"\n"))
        assert (output / "scores.jsonl").read_bytes().startswith(kept)


def test_scores_of_another_judge_are_not_mixed(completions, tmp_path, capsys):
    output = tmp_path / "out"
    with Judge(lambda number: 500 if number > 20 else 200) as judge:
        assert evaluate(completions, output, judge.url) == 2
        assert evaluate(completions, output, judge.url, "--scorer-votes", 5) == 2
        assert "--scorer-votes" in capsys.readouterr().err


def test_unusable_endpoint_is_one_sentence(completions, tmp_path, capsys):
    with Judge(lambda number: 401) as judge:
        assert evaluate(completions, tmp_path / "out", judge.url) == 2
    assert "--scorer-api-key-env" in capsys.readouterr().err.splitlines()[-1]


def test_neither_ray_nor_an_engine_is_loaded(completions, tmp_path):
    script = (
        "import sys\nfrom openrlhf_math.cli import main\nassert main(sys.argv[1:]) == 0\n"
        "assert not {'ray', 'vllm', 'torch'} & set(sys.modules), set(sys.modules) & {'ray', 'vllm', 'torch'}"
    )
    with Judge() as judge:
        flags = [
            "--completions",
            completions,
            "--output",
            tmp_path / "out",
            "--scorer",
            "verdict",
            "--scorer-model",
            "j",
        ]
        command = [sys.executable, "-c", script, "eval", *flags, "--scorer-base-url", judge.url]
        done = subprocess.run([str(one) for one in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
