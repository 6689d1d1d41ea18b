"""`eval --judge-base-url`: a real endpoint on loopback decides where the grader cannot, and is asked once."""

import asyncio
import json
import threading
from dataclasses import replace

import pytest
from chat_server import ChatServer

from openrlhf_math.cli import main
from openrlhf_math.endpoint import client
from openrlhf_math.evaluation.recorded import Row
from openrlhf_math.rerank.answer_judge import AnswerJudge, JudgeSettings, in_words, read_verdict
from openrlhf_math.rewards import Grade, RewardConfig

KEY = "sk-very-secret-0123456789"
ANSWERS = ["Evelyn", "the girl Evelyn", "Angela", "Evelyn, by far"]


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(client, "backoff", lambda number: 0.0)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


class Judge:
    """Says that an answer is the same where it has the name in it."""

    def __init__(self, status: int = 200) -> None:
        self.bodies, self.status, self.lock = [], status, threading.Lock()

    def __call__(self, body, headers):
        with self.lock:
            self.bodies.append(body)
        given = body["messages"][0]["content"].split("<given>")[1].split("</given>")[0]
        if self.status != 200:
            return self.status, f"no, Bearer {KEY}"
        if "far" in given:
            return 200, "I cannot tell."
        return 200, f'Let me see {{"same": false}} ... {{"same": {str("Evelyn" in given).lower()}}}'


@pytest.fixture
def made(tmp_path):
    """Completions made elsewhere: one of four is right by the grader, which knows the name alone."""
    path = tmp_path / "made.jsonl"
    rows = [{"problem": "Who is 1st?", "gold": "Evelyn",
             "responses": [f"\\boxed{{{one}}}" for one in ANSWERS]},
            {"problem": "1+1?", "gold": "2",
             "responses": ["\\boxed{2}", "\\boxed{3}", "no box"] + ["\\boxed{2}"]}]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def evaluate(made, output, url, *flags) -> int:
    given = ["--judge-base-url", url, "--judge-model", "judge-1"] if url else []
    return main(["eval", "--completions", str(made), "--output", str(output), "--workers", "1", *given, *flags])


def outcomes(output) -> list[str]:
    return [json.loads(line)["outcome"] for line in (output / "completions.jsonl").read_text().splitlines()]


def test_judge_decides_ungraded_answers_and_its_share_is_shown(made, tmp_path):
    judge = Judge()
    assert evaluate(made, tmp_path / "without", None) in (None, 0)
    plain = outcomes(tmp_path / "without")
    assert plain[0] == "correct" and "correct" not in plain[1:4]
    with ChatServer(judge) as server:
        assert evaluate(made, tmp_path / "out", server.url) in (None, 0)
        assert outcomes(tmp_path / "out")[:4] == ["correct", "correct", plain[2], plain[3]]
        assert outcomes(tmp_path / "out")[4:] == plain[4:]  # numbers are the grader's
        assert len(judge.bodies) == 3 and {body["model"] for body in judge.bodies} == {"judge-1"}
        assert all("Evelyn" in body["messages"][0]["content"] for body in judge.bodies)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["judge"], summary["judged"], summary["judged_share"]) == ("judge-1", 2, 0.25)
    assert summary["pass_at_1"] == pytest.approx((2 / 4 + 2 / 4) / 2)
    assert KEY not in "".join(path.read_text() for path in (tmp_path / "out").glob("*.json*"))


def test_equal_questions_are_asked_once(made, tmp_path, capsys):
    rows = made.read_text().splitlines()
    made.write_text("\n".join([rows[0]] * 5) + "\n")
    judge, output = Judge(), tmp_path / "out"
    with ChatServer(judge) as server:
        assert evaluate(made, output, server.url) in (None, 0)
        assert len(judge.bodies) == 3
        shown = " ".join(capsys.readouterr().out.split())
        assert "graded by judge-1" in shown and "50.0% of completions" in shown
        for path in output.glob("*"):
            if path.name != "judge.jsonl":
                path.unlink()
        assert evaluate(made, output, server.url) in (None, 0)
        assert len(judge.bodies) == 3
        for path in output.glob("*"):
            if path.name != "judge.jsonl":
                path.unlink()
        assert evaluate(made, output, server.url, "--judge-extra-body", '{"top_k": 1}') in (None, 0)
        assert len(judge.bodies) == 6  # another question


@pytest.mark.parametrize("status", [401, 404])
def test_unusable_judge_is_one_sentence(made, tmp_path, capsys, status):
    with ChatServer(Judge(status)) as server:
        assert evaluate(made, tmp_path / "out", server.url) == 2
    error = capsys.readouterr().err
    assert "--judge-" in error and KEY not in error and "Traceback" not in error
    assert not (tmp_path / "out" / "summary.json").exists()


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--judge-model", "m"], "--judge-model"),
        (["--judge-base-url", "http://127.0.0.1:9/v1"], "--judge-model"),
        (["--judge-base-url", "nowhere", "--judge-model", "m"], "--judge-base-url"),
        (
            ["--judge-base-url", "http://127.0.0.1:9/v1", "--judge-model", "m", "--judge-concurrency", "0"],
            "concurrency",
        ),
    ],
    ids=str,
)
def test_wrong_flags_are_refused_before_requests(made, tmp_path, capsys, flags, named):
    assert evaluate(made, tmp_path / "out", None, *flags) == 2
    assert named in capsys.readouterr().err


def test_ungraded_grades_become_the_judges(tmp_path):
    """The judge is asked about ungraded answers, and about no right one, no wrong number, none without an answer."""
    grades = [
        Grade("ungraded", 0.0, "x Evelyn", True, 0.1, "too long"),
        Grade("ungraded", 0.0, "y", True, 0.1, "too long"),
        Grade("ungraded", 0.0, "y", False, 0.1, "too long"),
        Grade("ungraded", 0.0, None, False, 0.1, "too long"),
        Grade("correct", 1.0, "z", True, 0.1),
        Grade("wrong", 0.0, "7", False, 0.1),
    ]
    row = Row("", "1+1?", "\\frac{1}{2}", ["?"] * 6, None, None, None, {})
    judge = Judge()
    from openrlhf_math.endpoint.settings import EndpointSettings

    with ChatServer(judge) as server:
        endpoint = EndpointSettings(server.url, "", "K", 2, None, None, 9.0, 2, {})
        settings = JudgeSettings("m", endpoint)
        with AnswerJudge(settings, RewardConfig(), tmp_path / "judge.jsonl") as asked:
            result = asked.graded(row.problem, row.gold, grades)
            assert asked.figures(6)["judged_share"] == 0.5
    assert [grade.outcome for grade in result] == ["correct", "format", "wrong", "ungraded", "correct", "wrong"]
    assert [grade.reward for grade in result] == [1.0, 0.2, 0.0, 0.0, 1.0, 0.0]
    assert len(judge.bodies) == 2


@pytest.mark.parametrize(
    ("gold", "words"),
    [("Evelyn", True), ("\\text{Evelyn}", True), ("the empty set", True), ("\\frac{1}{2}", False), ("x=2", False),
     ("\\sqrt{3}", False), ("(A)", False), ("2\\pi r", False), ("", False), ("\\" * 50000, False), ("a" * 50000, True)],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_textual_golds_are_recognized(gold, words):
    assert in_words(gold) is words


@pytest.mark.parametrize(
    ("content", "reason", "verdict"),
    [('{"same": true}', "stop", True), ("{'same':FALSE}", "stop", False),
     ('{"same": false} {"same": true}', "stop", True),
     ("yes", "stop", None), ('{"same": true}', "length", None), ('{"same": truethful}', "stop", None)],
)  # fmt: skip
def test_verdict_is_read_at_the_end_of_a_reply(content, reason, verdict):
    assert read_verdict(content, reason) is verdict


# In the rollouts of `grpo`


def test_judge_grades_ungraded_rollouts(tmp_path):
    from openrlhf_math.cli.grpo import build_parser
    from openrlhf_math.cli.model_flags import judge_settings
    from openrlhf_math.grpo.executor import AgentExecutor
    from openrlhf_math.grpo.rollout.tool_turns import TokenLedger

    async def rollouts(executor) -> list[dict]:
        texts = [f"so \\boxed{{{one}}}" for one in ANSWERS]
        ledgers = [TokenLedger(ids=[1], actions=[(0, 1)], log_probs=[0.0], text=text) for text in texts]
        return [await executor._rollout("Who is 1st?", "Evelyn", [7], one) for one in ledgers]

    answer, rewards = Judge(), RewardConfig(workers=1)
    with ChatServer(answer) as server:
        flags = build_parser("grpo").parse_args(["--judge-base-url", server.url, "--judge-model", "judge-1"])
        with AnswerJudge(judge_settings(flags), rewards, tmp_path / "judge.jsonl") as judge:
            executor = AgentExecutor()
            executor.open(rewards)
            executor.judge = judge
            try:
                found = asyncio.run(rollouts(executor))
            finally:
                executor.pool.close()
    assert [one["reward"] for one in found] == [1, 1, 0.2, 0.2]
    assert [one["grade"]["by"] for one in found] == ["gold", "judge", "judge", "gold"], "the last has no verdict"
    assert [one["extra_logs"]["judged_rate"] for one in found] == [0, 1, 1, 0] and len(answer.bodies) == 3


def test_judge_key_is_not_in_settings():
    from openrlhf_math.cli.grpo import build_parser
    from openrlhf_math.cli.model_flags import judge_settings
    from openrlhf_math.grpo.flags import build_parser as grpo_parser
    from openrlhf_math.grpo.settings import as_json, resolve

    minimal = ["--actor.model_name_or_path", "some/model", "--data.prompt_dataset", "some/data", "--math.device", "cpu"]
    flags = build_parser("grpo").parse_args(["--judge-base-url", "http://127.0.0.1:1/v1", "--judge-model", "judge-1"])
    args = resolve(grpo_parser("grpo").parse_args(minimal))
    plain = json.loads(as_json(args))
    assert plain["math"]["judge"] is None
    args.math = replace(args.math, judge=judge_settings(flags))
    text = as_json(args)
    assert KEY not in text
    assert json.loads(text)["math"]["judge"] == {
        "model": "judge-1", "base_url": "http://127.0.0.1:1/v1", "extra_body": {}
    }  # fmt: skip
