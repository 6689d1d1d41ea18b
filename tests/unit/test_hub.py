"""Names of the hub where it cannot be reached: a sentence soon, from every command, and nothing is retried."""

import json
import subprocess
import sys

import pytest

from openrlhf_math.data import places

# No address answers at port 9 of this machine, so every connection is refused at once.
NOWHERE = "http://127.0.0.1:9"


def run(tmp_path, monkeypatch, *words):
    """A command in its own process, with an empty cache and a hub that refuses connections."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    return subprocess.run(
        [sys.executable, "-m", "openrlhf_math", *words], capture_output=True, text=True, cwd=tmp_path, timeout=300
    )


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["sft", "--model", "some/model", "--data.dataset", "rows.jsonl", "--output", "out"], "some/model"),
        (["grpo", "--model", "some/model", "--problems", "rows.jsonl", "--math.run_dir", "out"], "some/model"),
        (["eval", "--model", "some/model", "--benchmark", "rows.jsonl", "--output", "out"], "some/model"),
        (["eval", "--model", "folder", "--benchmark", "aime24", "--output", "out"], "HuggingFaceH4/aime_2024"),
        (["serve", "--model", "some/model"], "some/model"),
        (["distill", "--problems", "some/set", "--model", "m", "--output", "out"], "some/set"),
        (["curate", "--source", "some/set", "--output", "out"], "some/set"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else value.split("/")[1],
)
def test_name_that_cannot_be_downloaded_is_refused_without_retries(tmp_path, monkeypatch, words, name):
    row = {"problem": "1+1", "answer": "2", "messages": [{"role": "user", "content": "1+1"}]}
    (tmp_path / "rows.jsonl").write_text((json.dumps(row) + "\n") * 16)
    (tmp_path / "folder").mkdir()
    for file in ("config.json", "tokenizer_config.json"):
        (tmp_path / "folder" / file).write_text("{}")
    if words[0] == "distill":
        words = [*words, "--base-url", f"{NOWHERE}/v1"]
    done = run(tmp_path, monkeypatch, *words)
    assert done.returncode == 2, done.stderr
    assert f"{name}: it is not in the local cache" in done.stderr and "Traceback" not in done.stderr
    assert "Retry" not in done.stderr and "save it again" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_download_command_names_the_kind(tmp_path):
    error = ConnectionError("no network")
    assert "`hf download some/model`" in places.why_missing("some/model", error)
    assert "`hf download --repo-type dataset some/set`" in places.why_missing("some/set", error, "dataset")
    assert places.why_missing(str(tmp_path), error) is None  # a folder lacks nothing that a download would bring
    assert places.why_missing("some/model", ValueError("its file is torn")) is None


def test_error_of_a_cached_model_is_not_a_missing_download(tmp_path, monkeypatch):
    place = tmp_path / "cache" / "hub" / "models--some--model"
    (place / "snapshots" / "abc").mkdir(parents=True)
    (place / "snapshots" / "abc" / "config.json").write_text('{"model_type": "no_such_type"}')
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("abc")
    done = run(tmp_path, monkeypatch, "serve", "--model", "some/model")
    assert done.returncode == 2 and "does not know its model_type" in done.stderr, done.stderr
    assert "not in the local cache" not in done.stderr


@pytest.mark.parametrize("value", ["0", "1"])
def test_users_choice_is_kept(monkeypatch, value):
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    monkeypatch.setattr(places, "_reachable", lambda url: pytest.fail("it was asked"))
    places.give_up_soon_without_network()
    assert places.os.environ["HF_HUB_OFFLINE"] == value
