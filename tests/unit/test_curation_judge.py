"""The judge of pairs, against a real server on loopback."""

import re
from collections import Counter

import pytest
from chat_server import ChatServer

from openrlhf_math.cli.curate import build_parser
from openrlhf_math.curation.judge import LONGEST_PAIR, PairJudge, read_answer
from openrlhf_math.curation.settings import Judge
from openrlhf_math.endpoint import client as endpoint
from openrlhf_math.endpoint.settings import JUDGE_TRIES
from openrlhf_math.errors import UserError
from openrlhf_math.runs.progress import silent

PAIRS = [
    ("Find $x$ if $x + 3 = 5$.", "If $x + 3 = 5$, what is $x$?"),
    ("Find $x$ if $x + 3 = 5$.", "Find $x$ if $x - 3 = 5$."),
    ("How many primes are below 20?", "Find the number of primes less than 20."),
]
SAME = {PAIRS[0], PAIRS[2]}


class Server(ChatServer):
    """Answers by SAME. status(number): of the reply to a request, counted from 1. wrap: around an answer."""

    def __init__(self, status=lambda number: 200, wrap='```json\n{{"same": {}}}\n```'.format):
        self.asked, self.requests, self.keys = Counter(), 0, []

        def answer(body, headers):
            self.requests += 1
            self.keys.append(headers["Authorization"])
            code = status(self.requests)
            text = body["messages"][-1]["content"]
            pair = next(pair for pair in PAIRS if f"\n{pair[0]}\n" in text and f"\n{pair[1]}\n" in text)
            if code == 200:
                self.asked[pair] += 1
            return code, wrap("true" if pair in SAME else "false")

        super().__init__(answer)


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(endpoint, "backoff", lambda number: 0.0)
    monkeypatch.setenv("JUDGE_KEY", "sk-judge-0123456789")


def judged(pairs, url, journal, progress=silent, **settings):
    judge = Judge(**{"base_url": url, "model": "judge", "api_key_env": "JUDGE_KEY", "request_timeout": 30.0} | settings)
    with PairJudge(judge, journal) as asked:
        asked.ask(iter(pairs), len(pairs), progress)
        return [asked.judgement(pair).same for pair in pairs]


def test_each_pair_is_judged_once(tmp_path):
    journal, shown = tmp_path / "work" / "judge.jsonl", []
    with Server() as judge:
        found = judged([*PAIRS, PAIRS[1]], judge.url, journal, progress=lambda *what: shown.append(what))
        assert found == [True, False, True, False]
        assert judge.asked == dict.fromkeys(PAIRS, 1)
        assert set(judge.keys) == {"Bearer sk-judge-0123456789"}
        assert shown[0] == ("judging suspects", 0, 4, "pairs") and shown[-1] == ("judging suspects", 4, 4, "pairs")
        assert judged(PAIRS, judge.url, journal) == [True, False, True]
        assert judge.requests == 3
        judged(PAIRS, judge.url, journal, model="another")
        assert judge.requests == 6
        judged(PAIRS, judge.url, journal, extra_body={"reasoning_effort": "high"})
        assert judge.requests == 9
    assert "sk-judge" not in journal.read_text()


def test_truncated_line_is_requested_again(tmp_path):
    journal = tmp_path / "judge.jsonl"
    with Server() as judge:
        judged(PAIRS[:2], judge.url, journal)
        journal.write_bytes(journal.read_bytes()[:-5])
        assert judged(PAIRS, judge.url, journal) == [True, False, True]
        assert judge.requests == 4


def test_failures_are_retried(tmp_path):
    with Server(status=lambda number: 503 if number % 2 else 200) as judge:
        assert judged(PAIRS, judge.url, tmp_path / "judge.jsonl", concurrency=1) == [True, False, True]
        assert judge.requests == 6


@pytest.mark.parametrize("code, requests", [(500, JUDGE_TRIES), (400, 1)])
def test_pair_without_an_answer_is_asked_by_the_next_run(code, requests, tmp_path):
    journal = tmp_path / "judge.jsonl"
    with Server(status=lambda number: code if 2 <= number < 2 + requests else 200) as judge:
        assert judged(PAIRS, judge.url, journal, concurrency=1) == [True, None, True]
        assert judge.requests == 2 + requests
        assert judged(PAIRS, judge.url, journal) == [True, False, True]
        assert judge.asked == dict.fromkeys(PAIRS, 1)


@pytest.mark.parametrize("code", [400, 401, 402, 404, 405, 429, 500])
def test_unusable_endpoint_ends_the_run_naming_curate_flags(code, tmp_path):
    flags = {flag for action in build_parser("curate")._actions for flag in action.option_strings}
    with Server(status=lambda number: code) as judge, pytest.raises(UserError, match=f"HTTP {code}") as error:
        judged(PAIRS * 3, judge.url, tmp_path / "judge.jsonl")
    named = set(re.findall(r"--[a-z-]+", str(error.value)))
    assert "--judge-base-url" in named and named <= flags


def test_dead_endpoint_and_a_missing_key_are_refused(tmp_path):
    with pytest.raises(UserError, match="--judge-base-url http://127.0.0.1:1/v1: no connection"):
        judged(PAIRS, "http://127.0.0.1:1/v1", tmp_path / "judge.jsonl")
    with pytest.raises(UserError, match="--judge-api-key-env MISSING_KEY"):
        judged(PAIRS, "http://127.0.0.1:1/v1", tmp_path / "judge.jsonl", api_key_env="MISSING_KEY")


def test_pair_that_is_too_long_is_not_asked(tmp_path):
    with Server() as judge:
        assert judged([("a" * LONGEST_PAIR, "b"), PAIRS[0]], judge.url, tmp_path / "judge.jsonl") == [None, True]
        assert judge.requests == 1


def test_truncated_answer_is_not_a_verdict():
    assert read_answer('It may be {"same": true}, but', "length").same is None
    assert read_answer('{"same": true}', "stop").same is True


@pytest.mark.parametrize(
    "content, same",
    [
        ('{"same": true}', True),
        ("{'same': False}", False),
        ('Not {"same": true}, as the numbers differ: {"same":false}', False),
        ("They are the same.", None),
        ("", None),
    ],
)
def test_answers(content, same):
    assert read_answer(content, "stop").same is same
