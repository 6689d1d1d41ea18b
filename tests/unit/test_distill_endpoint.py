"""Distillation against a real server that misbehaves: every fault named, counted, retried or set aside, none lost."""

import email.utils
import json
import subprocess
import sys
import time

import pytest
from faulty_endpoint import UNSUPPORTED, FaultyEndpoint

from openrlhf_math.cli import main
from openrlhf_math.data.tiny_world.problems import distinct_stories
from openrlhf_math.endpoint import client as endpoint
from openrlhf_math.endpoint.client import backoff, seconds_asked
from openrlhf_math.endpoint.reply import FailedTry, parse

KEY = "sk-very-secret-0123456789"
PROBLEMS, ATTEMPTS = 12, 2


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(endpoint, "backoff", lambda number: 0.0)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture(scope="module")
def problems(tmp_path_factory):
    path = tmp_path_factory.mktemp("world") / "problems.jsonl"
    stories = distinct_stories(PROBLEMS, seed=3)
    rows = [{"problem": one.text, "answer": str(one.answer), "difficulty": one.difficulty} for one in stories]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


SOON = ("--request-timeout", 0.5)  # where the fault is that no reply comes


def distill(problems, output, url, *flags) -> int:
    command = ["distill", "--problems", problems, "--output", output, "--model", "tiny-teacher", "--base-url", url]
    given = ("--attempts", ATTEMPTS, "--max-tokens", 400, "--request-timeout", 30, "--tries", 3)
    return main([*map(str, command), *map(str, given), *map(str, flags)])


def dataset(output) -> bytes:
    return (output / "dataset" / "data" / "train.parquet").read_bytes()


def jsonl(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def clean(problems, tmp_path_factory):
    """The dataset of a server without faults."""
    output = tmp_path_factory.mktemp("clean") / "run"
    with FaultyEndpoint() as server:
        assert distill(problems, output, server.url) == 0
    assert jsonl(output / "rejects.jsonl") == []
    return dataset(output)


FAULTS = [
    ("429", "HTTP 429"),
    ("500", "HTTP 500"),
    ("503", "HTTP 503"),
    ("hang", "no reply within 0.5 s"),
    ("hang up", "connection broken off"),
    ("half a body", "connection broken off"),
    ("half of JSON", "nonsense instead of a completion"),
    ("html", "nonsense instead of a completion"),
    ("bytes", "nonsense instead of a completion"),
    ("no choices", "nonsense instead of a completion"),
    ("null", "nonsense instead of a completion"),
    ("an error in 200", "nonsense instead of a completion"),
    ("events", "nonsense instead of a completion"),
    ("10 MB", "nonsense instead of a completion"),
    ("packed", "nonsense instead of a completion"),
    ("no end", "nonsense instead of a completion"),
    ("headers without end", "connection broken off"),
    ("drip", "no reply within 0.5 s"),
]
SLOW_FAULTS = ("hang", "drip")


@pytest.mark.parametrize(("fault", "kind"), FAULTS)
def test_occasional_errors_are_counted_and_retried(fault, kind, problems, clean, tmp_path):
    output = tmp_path / "run"
    with FaultyEndpoint(lambda number, question: fault if number % 7 == 3 else "") as server:
        assert distill(problems, output, server.url, *(SOON if fault in SLOW_FAULTS else ())) == 0
        assert set(server.asked.values()) == {1} and len(server.asked) == PROBLEMS * ATTEMPTS
        faults = server.requests - PROBLEMS * ATTEMPTS
    (run,) = jsonl(output / "runs.jsonl")
    assert run["failed_tries"] == {kind: faults} and faults >= 3
    assert dataset(output) == clean
    assert jsonl(output / "rejects.jsonl") == []


@pytest.mark.parametrize(("fault", "kind"), [*FAULTS, ("400", "HTTP 400"), ("404", "HTTP 404"), ("418", "HTTP 418")])
def test_missing_replies_are_skipped_and_retried_in_the_next_run(fault, kind, problems, clean, tmp_path):
    output = tmp_path / "run"
    lost = json.loads(problems.read_text().splitlines()[7])["problem"]
    with FaultyEndpoint(lambda number, question: fault if question.startswith(lost) else "") as server:
        assert distill(problems, output, server.url, *(SOON if fault in SLOW_FAULTS else ())) == 0
        rejects = jsonl(output / "rejects.jsonl")
        assert [(one["row"], one["attempt"]) for one in sorted(rejects, key=lambda one: one["attempt"])] == [
            (8, 0),
            (8, 1),
        ]
        assert all(one["reason"].startswith(kind) for one in rejects)
        report = json.loads((output / "report.json").read_text())
        assert report["counts"]["set aside without a reply"] == 2 and report["outcomes"]["set aside"] == 2
        asked = server.requests
        server.fault = lambda number, question: ""
        assert distill(problems, output, server.url) == 0
        assert server.requests == asked + 2, "nothing it had was asked again"
    assert dataset(output) == clean
    assert jsonl(output / "rejects.jsonl") == []


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("401", "HTTP 401 (wrong key Bearer [the key]); it refuses the key: set $OPENAI_API_KEY"),
        ("404", "HTTP 404 (no such model); there is no such address or model: fix --base-url"),
        ("400", "HTTP 400 (too long); it refuses the request"),
        ("402", "HTTP 402 (no funds); the account is empty"),
        ("418", "HTTP 418 (a teapot); it refuses the request"),
        ("moved", "HTTP 301 (https://elsewhere.example/v1); it has moved: give the new address as --base-url"),
        ("unsupported", f"HTTP 400 ({UNSUPPORTED}); it refuses the request"),
        ("no end", "(a body of more than 1,074,176 bytes); start the endpoint"),
        ("html", "nonsense instead of a completion (<html>welcome</html>); start the endpoint, or fix --base-url"),
        ("hang", "no reply within 0.5 s; it answers nothing: look at its log"),
        ("500", "HTTP 500 (<html>oops</html>); it answers nothing"),
        ("429", "HTTP 429 (slow down); it answers nothing at this rate: lower --concurrency"),
    ],
)
def test_silent_endpoint_is_given_up_early(fault, sentence, problems, tmp_path, capsys):
    with FaultyEndpoint(lambda number, question: fault) as server:
        assert distill(problems, tmp_path / "run", server.url, "--concurrency", 2, *SOON) == 2
        assert server.requests <= 3 * (endpoint.IN_VAIN + 2)
    error = capsys.readouterr().err
    assert sentence in error and f"--base-url {server.url}" in error
    assert "Traceback" not in error and KEY not in error
    assert not (tmp_path / "run" / "dataset").exists()


def test_no_endpoint_at_all(problems, tmp_path, capsys):
    assert distill(problems, tmp_path / "run", "http://127.0.0.1:9/v1") == 2
    assert "no connection" in capsys.readouterr().err


def test_endpoint_that_dies_is_given_up_and_replies_are_kept(problems, clean, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(endpoint, "IN_VAIN_LATER", 4)
    output = tmp_path / "run"
    with FaultyEndpoint(lambda number, question: "500" if number > 9 else "") as server:
        assert distill(problems, output, server.url, "--concurrency", 2) == 2
        assert "what it answered is kept, run the same command again" in capsys.readouterr().err
        assert len((output / "journal.jsonl").read_text().splitlines()) == 9
        server.fault = lambda number, question: ""
        assert distill(problems, output, server.url) == 0
        assert set(server.asked.values()) == {1}
    assert dataset(output) == clean


def test_order_of_replies_does_not_matter(problems, clean, tmp_path):
    for concurrency in (1, 50):
        output = tmp_path / str(concurrency)
        with FaultyEndpoint(lambda number, question: "hang up" if number % 3 == 0 else "") as server:
            assert distill(problems, output, server.url, "--concurrency", concurrency, "--tries", 9) == 0
        assert dataset(output) == clean


def test_requested_pause_applies_to_all_requests(problems, tmp_path):
    times = []

    def fault(number: int, question: str) -> str:
        times.append(time.monotonic())
        return "429 for 1 s" if number == 1 else ""

    with FaultyEndpoint(fault) as server:
        assert distill(problems, tmp_path / "run", server.url, "--concurrency", 1) == 0
    assert times[1] - times[0] >= 1.0


def test_key_is_sent_and_shown_nowhere(problems, tmp_path):
    """Not by an endpoint that echoes it either, in errors and in traces; nor in a traceback."""
    faults = {2: "the key", 3: "401", 5: "the key", 6: "the key in other signs"}
    script = (
        "import sys; from openrlhf_math.endpoint import client; client.backoff = lambda number: 0\n"
        "from openrlhf_math.cli import main; code = main(sys.argv[1:])\n"
        "from openrlhf_math.distill.settings import EndpointSettings\n"
        f"print(EndpointSettings('http://a/v1', '{KEY}', 'K', 1, None, None, 1.0, 1, {{}}))\n"
        "sys.exit(code)"
    )
    with FaultyEndpoint(lambda number, question: faults.get(number, "")) as server:
        command = [
            sys.executable, "-X", "dev", "-c", script, "distill", "--problems", problems, "--output", tmp_path / "run",
            "--model", "tiny-teacher", "--base-url", server.url, "--attempts", "2", "--max-tokens", "400",
        ]  # fmt: skip
        result = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        assert server.headers["Authorization"] == f"Bearer {KEY}"
    assert result.returncode == 0, result.stderr
    assert KEY not in result.stdout + result.stderr
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert len(files) == 9
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    assert "[the key]" in (tmp_path / "run" / "journal.jsonl").read_text()


def test_field_set_to_null_is_left_out(problems, clean, tmp_path):
    """As OpenAI's newer models want it."""
    fields = {"max_tokens": None, "max_completion_tokens": 4000, "temperature": None, "top_p": None, "seed": None}
    with FaultyEndpoint() as server:
        assert distill(problems, tmp_path / "run", server.url, "--extra-body", json.dumps(fields)) == 0
        assert all(set(body) == {"model", "messages", "max_completion_tokens"} for body in server.bodies)
        assert {body["max_completion_tokens"] for body in server.bodies} == {4000}


def test_refusal_text_is_shown_when_the_run_succeeds(problems, tmp_path, capsys):
    lost = json.loads(problems.read_text().splitlines()[7])["problem"]
    with FaultyEndpoint(lambda number, question: "unsupported" if question.startswith(lost) else "") as server:
        assert distill(problems, tmp_path / "run", server.url) == 0
    error = capsys.readouterr().err
    assert "2 attempts have no reply" in error and UNSUPPORTED in error


def test_endless_body_is_not_read_to_the_end(problems, tmp_path):
    """Of what a megabyte and 64 bytes a token cannot hold, no more is read than the buffers of a connection."""
    with FaultyEndpoint(lambda number, question: "no end" if number == 1 else "") as server:
        assert distill(problems, tmp_path / "run", server.url) == 0
        assert server.sent < 32 << 20


def test_no_key_is_sent_without_one(problems, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with FaultyEndpoint() as server:
        assert distill(problems, tmp_path / "run", server.url) == 0
        assert "Authorization" not in server.headers


def completion(finish_reason="stop", usage=None, **message) -> str:
    return json.dumps({"choices": [{"message": message, "finish_reason": finish_reason}], "usage": usage})


PARTS = [{"type": "text", "text": "a"}, {"type": "output_text", "text": "b"}]
THOUGHT = {"type": "thinking", "thinking": [{"type": "text", "text": "c"}, {"type": "text", "text": "d"}]}
USAGE = {"completion_tokens": 5, "prompt_tokens": 3}


@pytest.mark.parametrize(
    ("body", "content", "reasoning", "tokens", "charged"),
    [
        (completion(content="a", usage=USAGE), "a", "", 5, 8),
        (completion(content="a", reasoning_content="b", usage=USAGE), "a", "b", 5, 8),
        (completion(content="a", reasoning="b", usage=USAGE), "a", "b", 5, 8),
        (completion(content=PARTS, usage=USAGE), "ab", "", 5, 8),
        (completion(content=[THOUGHT, *PARTS], usage=USAGE), "ab", "cd", 5, 8),
        (completion(content=[{"type": "reasoning", "text": "c"}, *PARTS]), "ab", "c", None, 0),
        (completion(content=[]), "", "", None, 0),
        (completion(content=None, reasoning_content="b", usage=USAGE), "", "b", 5, 8),
        (completion(content="a", reasoning_content=None), "a", "", None, 0),
        (completion(content="a", usage={"completion_tokens": -1, "prompt_tokens": True}), "a", "", None, 0),
        (completion(content="\ud800 a"), "\ufffd a", "", None, 0),
        ("\n\n\n" + completion(content="a"), "a", "", None, 0),
    ],
    ids=[
        "plain",
        "DeepSeek",
        "vLLM",
        "parts",
        "Mistral",
        "a part of reasoning",
        "no parts",
        "cut off while thinking",
        "no usage",
        "mad usage",
        "half a letter",
        "kept alive",
    ],
)
def test_replies_of_several_servers(body, content, reasoning, tokens, charged):
    reply, cost = parse(body)
    assert (reply.content, reply.reasoning, reply.tokens, cost) == (content, reasoning, tokens, charged)


@pytest.mark.parametrize(
    "body",
    ["", "[]", "3", '{"choices": {}}', '{"choices": [null]}', '{"choices": [{"message": "hi"}]}',
     completion(content=["a"]), completion(content=[{"type": "image_url"}]), completion(content=[{"type": "text"}]),
     completion(content=[{"type": "text", "text": 3}]), completion(content=7),
     completion(content="a", finish_reason={}) + "}", "[" * 100_000],
)  # fmt: skip
def test_nonsense(body):
    with pytest.raises(FailedTry, match="nonsense instead of a completion"):
        parse(body)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, 0), ("", 0), ("7", 7), ("0.5", 0.5), ("-3", 0), ("nan", 0), ("soon", 0), ("inf", 600), ("99999999", 600)],
)
def test_retry_after(header, seconds):
    assert seconds_asked(header) == seconds


def test_retry_after_as_a_date():
    assert 25 < seconds_asked(email.utils.formatdate(time.time() + 30, usegmt=True)) <= 30


def test_waits_double_and_are_bounded():
    for number in range(1, 2000):
        longest = min(2.0 ** (number - 1), endpoint.LONGEST_WAIT) if number < 1000 else endpoint.LONGEST_WAIT
        assert longest / 2 <= backoff(number) <= longest


@pytest.mark.parametrize("tokens", [10**400, 10**12, -1, True, 1.5, "7"])
def test_impossible_token_count_is_none(tokens):
    """It would let the next request wait for days."""
    body = {"choices": [{"message": {"content": "x"}}], "usage": {"completion_tokens": tokens, "prompt_tokens": tokens}}
    answer, charged = parse(json.dumps(body))
    assert (answer.tokens, answer.prompt_tokens, charged) == (None, None, 0)


@pytest.mark.parametrize(
    "header", [f"Mon, {10**20} Jan 2020 00:00:00 GMT", f"Mon, 01 Jan {10**20} 00:00:00 GMT", f"1 Jan 2020 +{10**20}"]
)
def test_impossible_date(header):
    assert seconds_asked(header) == 0
