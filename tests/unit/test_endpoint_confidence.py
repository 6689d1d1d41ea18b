"""Confidence in attempts from an endpoint's log-probabilities: a server on loopback, and the figures by hand."""

import json
import math
import random

import pytest
from json_server import JsonServer

from openrlhf_math.cli import main
from openrlhf_math.endpoint.reply import parse

WINDOW = 8


def token(rng: random.Random, count: int) -> dict:
    """A drawn token and the likeliest ones, which may hold it; the largest is the first."""
    likely = sorted((math.log(rng.uniform(0.001, 0.3)) for _ in range(count)), reverse=True)
    drawn = rng.choice([likely[0], -7.5])
    top = [{"token": f"t{place}", "logprob": one, "bytes": [116]} for place, one in enumerate(likely)]
    return {"token": "t0", "logprob": drawn, "bytes": None, "top_logprobs": top}


class Endpoint(JsonServer):
    """Answers 1, 2 or 3; the surer of it the larger. change: of the reply to a request."""

    def __init__(self, change=lambda body, choice: None) -> None:
        self.said: dict[str, list[dict]] = {}
        self.bodies: list[dict] = []

        def reply(path, body, headers):
            self.bodies.append(body)
            rng = random.Random(body["seed"])
            text = f"seed {body['seed']}, so \\boxed{{{rng.randint(1, 3)}}}"
            choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            if body.get("logprobs"):
                tokens = [token(rng, body["top_logprobs"]) for _ in range(rng.randint(3, 30))]
                self.said[text] = tokens
                choice["logprobs"] = {"content": tokens}
            change(body, choice)
            return 200, {"choices": [choice], "usage": {"completion_tokens": 9, "prompt_tokens": 5}}

        super().__init__(reply)


def run(*flags) -> int:
    return main([str(flag) for flag in flags])


def solve(url, output, *flags) -> int:
    given = ("--model", "tiny", "--base-url", url, "--seed", 1, "--output", output, "--confidence-window", WINDOW)
    return run("solve", "1 + 1?", *given, *flags)


def by_hand(tokens: list[dict]) -> dict[str, float]:
    """DeepConf's definitions, token by token and window by window."""
    sure = [-sum(other["logprob"] for other in one["top_logprobs"]) / len(one["top_logprobs"]) for one in tokens]
    drawn = [one["logprob"] for one in tokens]
    width = min(WINDOW, len(tokens))
    windows = [sum(sure[begin : begin + width]) / width for begin in range(len(sure) - width + 1)]
    lowest = sorted(windows)[: max(1, len(windows) // 10)]
    return {
        "mean": sum(sure) / len(sure),
        "tail": sum(sure[-width:]) / width,
        "lowest": min(windows),
        "bottom": sum(lowest) / len(lowest),
        "logprob": sum(drawn) / len(drawn),
        "tail_logprob": sum(drawn[-width:]) / width,
    }


def test_votes_use_the_endpoints_log_probabilities(tmp_path):
    output = tmp_path / "solved.jsonl"
    with Endpoint() as server:
        assert solve(server.url, output, "--rule", "confident", "--attempts", 12) == 0
    row = json.loads(output.read_text())
    assert all((body["logprobs"], body["top_logprobs"]) == (True, 20) for body in server.bodies)
    assert row["unmeasured"] == 0 and len(row["responses"]) == 12
    weights: dict[str, float] = {}
    for text, answer, found in zip(row["responses"], row["answers"], row["confidence"], strict=True):
        expected = by_hand(server.said[text])
        assert {name: found[name] for name in expected} == pytest.approx(expected)
        weights[answer] = weights.get(answer, 0.0) + expected["tail"]
    assert row["answer"] == max(weights, key=weights.__getitem__)


def test_least_confident_attempts_do_not_vote(tmp_path):
    output = tmp_path / "solved.jsonl"
    with Endpoint() as server:
        assert solve(server.url, output, "--keep-confident", 0.5, "--attempts", 8) == 0
    row = json.loads(output.read_text())
    order = sorted(range(8), key=lambda number: -by_hand(server.said[row["responses"][number]])["tail"])
    votes = [row["answers"][number] for number in sorted(order[:4])]
    assert row["left_out"] == 4 and votes.count(row["answer"]) == max(map(votes.count, votes))


def test_eval_records_it(tmp_path):
    problems = tmp_path / "problems.jsonl"
    problems.write_text('{"problem": "1 + 1?", "answer": "2"}\n{"problem": "1 + 2?", "answer": "3"}\n')
    flags = ("--model", "tiny", "--benchmark", problems, "--samples", 3, "--temperature", 1, "--workers", 1)
    with Endpoint() as server:
        given = (*flags, "--base-url", server.url, "--output", tmp_path / "out", "--record-confidence")
        assert run("eval", *given, "--confidence-window", WINDOW) == 0
    rows = [json.loads(line) for line in (tmp_path / "out/completions.jsonl").read_text().splitlines()]
    assert len(rows) == 6
    for row in rows:
        expected = by_hand(server.said[row["response"]])
        assert {name: row["confidence"][name] for name in expected} == pytest.approx(expected)


def without(body, choice) -> None:
    choice.pop("logprobs", None)


def without_candidates(body, choice) -> None:
    for one in choice.get("logprobs", {}).get("content", ()):
        one["top_logprobs"] = []


def of_another_form(body, choice) -> None:
    choice["logprobs"] = {"content": ["a", 5], "tokens": ["a"]}


@pytest.mark.parametrize("change", [without, without_candidates, of_another_form])
def test_endpoint_without_log_probabilities_is_one_sentence(change, tmp_path, capsys):
    with Endpoint(change) as server:
        assert solve(server.url, tmp_path / "solved.jsonl", "--record-confidence") == 2
        error = capsys.readouterr().err
        assert "logprobs" in error and "--record-confidence" in error and "Traceback" not in error
        assert solve(server.url, tmp_path / "plain.jsonl", "--rule", "majority") == 0  # no warning without the rule


@pytest.mark.parametrize(
    "flags",
    [("--abort-unsure", "4"), ("--rule", "confident", "--tool", "python"), ("--record-confidence", "--tool", "python")],
)
def test_unsupported_endpoint_features_are_refused_before_requests(flags, tmp_path, capsys):
    with Endpoint() as server:
        assert solve(server.url, tmp_path / "solved.jsonl", *flags) == 2
        assert "--base-url" in capsys.readouterr().err and not server.bodies


def test_invalid_log_probabilities_are_ignored():
    top = [{"logprob": one} for one in (-0.5, -9999.0, float("-inf"), float("nan"), "x", None, 10**400, 5, True)]
    content = [{"logprob": -1, "top_logprobs": top}, {"logprob": 0.0, "top_logprobs": None}]
    body = {"choices": [{"message": {"content": "a"}, "logprobs": {"content": content}}]}
    first, second = parse(json.dumps(body))[0].logprobs
    assert first[:2] == [-1.0, -0.5] and all(map(math.isnan, first[2:])) and second == [0.0]
