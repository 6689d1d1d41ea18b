"""The judge of pairs, against a real server on loopback."""

import asyncio
import http.server
import json
import threading
from collections import Counter

import pytest

from openrlhf_math.curation.judge import LONGEST_PAIR, judge_pairs, read_answer
from openrlhf_math.endpoint import client as endpoint
from openrlhf_math.errors import UserError

PAIRS = [
    ("Find $x$ if $x + 3 = 5$.", "If $x + 3 = 5$, what is $x$?"),
    ("Find $x$ if $x + 3 = 5$.", "Find $x$ if $x - 3 = 5$."),
    ("How many primes are below 20?", "Find the number of primes less than 20."),
]
SAME = {PAIRS[0], PAIRS[2]}


class Judge:
    """Answers by SAME. status(number): of the reply to a request, counted from 1. wrap: around an answer."""

    def __init__(self, status=lambda number: 200, wrap='```json\n{{"same": {}}}\n```'.format):
        judge, self.asked, self.requests, self.keys = self, Counter(), 0, []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                judge.requests += 1
                judge.keys.append(self.headers["Authorization"])
                code = status(judge.requests)
                text = body["messages"][-1]["content"]
                pair = next(pair for pair in PAIRS if f"\n{pair[0]}\n" in text and f"\n{pair[1]}\n" in text)
                if code == 200:
                    judge.asked[pair] += 1
                message = {"role": "assistant", "content": wrap("true" if pair in SAME else "false")}
                reply = json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, *what):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *exception):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(endpoint, "backoff", lambda number: 0.0)
    monkeypatch.setenv("JUDGE_KEY", "sk-judge-0123456789")


def judged(pairs, url, journal, **settings):
    settings = {"request_timeout": 30.0} | settings
    return [one.same for one in asyncio.run(judge_pairs(pairs, url, "judge", "JUDGE_KEY", journal, **settings))]


def test_each_pair_is_judged_and_asked_once(tmp_path):
    journal, told = tmp_path / "work" / "judge.jsonl", []
    with Judge() as judge:
        found = judged([*PAIRS, PAIRS[1]], judge.url, journal, progress=lambda *what: told.append(what))
        assert found == [True, False, True, False]
        assert judge.asked == dict.fromkeys(PAIRS, 1)
        assert set(judge.keys) == {"Bearer sk-judge-0123456789"}
        assert told[0] == ("judging pairs", 0, 3, "pairs") and told[-1] == ("judging pairs", 3, 3, "pairs")
        assert judged(PAIRS, judge.url, journal) == [True, False, True]
        assert judge.requests == 3
    assert "sk-judge" not in journal.read_text()


def test_a_line_that_a_kill_tore_off_is_asked_again(tmp_path):
    journal = tmp_path / "judge.jsonl"
    with Judge() as judge:
        judged(PAIRS[:2], judge.url, journal)
        journal.write_bytes(journal.read_bytes()[:-5])
        assert judged(PAIRS, judge.url, journal) == [True, False, True]
        assert judge.requests == 4


def test_failures_are_tried_again(tmp_path):
    with Judge(status=lambda number: 503 if number % 2 else 200) as judge:
        assert judged(PAIRS, judge.url, tmp_path / "judge.jsonl", concurrency=1) == [True, False, True]
        assert judge.requests == 6


def test_a_pair_without_an_answer_is_asked_by_the_next_run(tmp_path):
    journal = tmp_path / "judge.jsonl"
    with Judge(status=lambda number: 500 if number in (2, 3) else 200) as judge:
        assert judged(PAIRS, judge.url, journal, tries=2, concurrency=1) == [True, None, True]
        assert judged(PAIRS, judge.url, journal) == [True, False, True]
        assert judge.asked == dict.fromkeys(PAIRS, 1)


def test_an_endpoint_of_no_use_ends_it_with_the_flags_of_curate(tmp_path):
    with Judge(status=lambda number: 401) as judge, pytest.raises(UserError, match="--judge-base-url .*HTTP 401"):
        judged(PAIRS * 3, judge.url, tmp_path / "judge.jsonl")
    with pytest.raises(UserError, match="--judge-api-key-env MISSING_KEY"):
        asyncio.run(judge_pairs(PAIRS, "http://127.0.0.1:1/v1", "judge", "MISSING_KEY", tmp_path / "other.jsonl"))


def test_a_pair_that_is_too_long_is_not_asked(tmp_path):
    with Judge() as judge:
        assert judged([("a" * LONGEST_PAIR, "b"), PAIRS[0]], judge.url, tmp_path / "judge.jsonl") == [None, True]
        assert judge.requests == 1


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
    assert read_answer(content).same is same
