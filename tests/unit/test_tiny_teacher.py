"""The programmatic teacher as an endpoint: reads the tiny world's problems, errs on purpose, always the same."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from openrlhf_math.cli import main
from openrlhf_math.data.tiny_world.problems import distinct_stories
from openrlhf_math.data.tiny_world.server import complete, read_story, teach
from openrlhf_math.rewards import grade

STORIES = distinct_stories(500, seed=1)


def test_every_problem_is_parsed_back_before_any_text():
    for story in STORIES:
        assert read_story(story.text) == story
        assert read_story(f"{story.text}\nTom buys 3. Reason step by step.") == story
    assert read_story("What is 2+2?") is None


def test_without_flaws_every_trace_is_correct():
    assert all(grade(teach(story, 0, flawed=0.0), str(story.answer)).outcome == "correct" for story in STORIES)


def test_flaws_have_the_requested_rate_and_are_detected():
    outcomes = [grade(teach(story, 0, flawed=0.3), str(story.answer)) for story in STORIES]
    good = sum(one.outcome == "correct" and one.well_formed for one in outcomes)
    assert good == pytest.approx(0.7 * len(STORIES), rel=0.1)


def test_output_depends_on_the_seed():
    asked = {"messages": [{"role": "user", "content": STORIES[0].text}]}
    replies = [json.dumps(complete(asked | {"seed": seed}, 0.3)) for seed in (1, 1, 2, 3, 4, 5)]
    assert replies[0] == replies[1] and len(set(replies)) > 2


def test_limit_truncates():
    asked = {"messages": [{"role": "user", "content": STORIES[0].text}], "max_tokens": 10}
    reply = complete(asked, 0.0)
    assert reply["choices"][0]["finish_reason"] == "length" and reply["usage"]["completion_tokens"] == 10
    assert reply["choices"][0]["message"]["content"] is None


@pytest.fixture(scope="module")
def url():
    command = [sys.executable, "-m", "openrlhf_math", "tiny-teacher", "--api-key-env", "TINY_KEY"]
    environment = os.environ | {"TINY_KEY": "open sesame"}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    yield server.stdout.readline().strip()
    server.send_signal(signal.SIGTERM)
    server.wait(timeout=10)


def post(url: str, body: dict, key: str = "open sesame") -> dict:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    request = urllib.request.Request(f"{url}/chat/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


def test_completion_is_served(url):
    with urllib.request.urlopen(f"{url}/models", timeout=10) as response:
        assert json.load(response)["data"][0]["id"] == "tiny-teacher"
    body = {"model": "tiny-teacher", "messages": [{"role": "user", "content": STORIES[0].text}]}
    assert "has" in post(url, body)["choices"][0]["message"]["reasoning_content"]


@pytest.mark.parametrize(
    ("change", "key", "status"),
    [
        ({}, "wrong", 401),
        ({"model": "gpt"}, "open sesame", 404),
        ({"messages": [{"role": "user", "content": "Hello"}]}, "open sesame", 400),
        ({"messages": []}, "open sesame", 400),
    ],
)
def test_invalid_requests_are_refused(url, change, key, status):
    body = {"model": "tiny-teacher", "messages": [{"role": "user", "content": STORIES[0].text}]}
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(url, body | change, key)
    assert refused.value.code == status


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--flawed", "2"), "--flawed 2.0: give a share"),
        (("--delay", "-1"), "--delay -1.0"),
        (("--api-key-env", "NOT_SET"), "--api-key-env NOT_SET"),
        (("--port", "70000"), "--port 70000: cannot listen there"),
    ],
)
def test_bad_input(flags, sentence, capsys):
    assert main(["tiny-teacher", *flags]) == 2
    assert sentence in capsys.readouterr().err
