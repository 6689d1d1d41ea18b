"""`grpo --dry-run` finds what would end the run: one line that names the flag, and nothing is written."""

import json

import pytest

from openrlhf_math.cli import main
from openrlhf_math.data.tiny_world.world import build_tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    build_tokenizer([f"{n} + {n} = ?" for n in range(40)]).save_pretrained(folder)
    (folder / "config.json").write_text('{"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}')
    return folder


@pytest.fixture
def dry(tmp_path, model, monkeypatch, capsys):
    """Run the dry run with further flags; returns the exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    rows = [{"problem": f"{n} + 1 = ?", "answer": str(n + 1)} for n in range(20)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ["--actor.model_name_or_path", str(model), "--data.prompt_dataset", "p.jsonl", "--data.max_len", "256"]

    def run(*more: str) -> tuple[int, str, str]:
        before = sorted(tmp_path.iterdir())
        code = main(["grpo", *flags, "--no-data.apply_chat_template", *more, "--dry-run"])
        assert sorted(tmp_path.iterdir()) == before
        return code, *capsys.readouterr()

    return run


def test_first_prompt_is_shown(dry):
    code, out, _ = dry()
    assert code == 0 and "0 + 1 = ?" in out


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--data.prompt_dataset", "none.jsonl"), "none.jsonl"),
        (("--data.prompt_dataset", "./none"), "./none"),
        (("--eval.dataset", "none.jsonl"), "none.jsonl"),
        (("--data.input_key", "question"), "question"),
        (("--data.max_len", "80", "--rollout.max_new_tokens", "40"), "row 1"),
        (("--math.run_dir", "p.jsonl"), "p.jsonl is not a directory"),
        (("--math.run_dir", "p.jsonl/run"), "p.jsonl is not a directory"),
        (("--train.agent_func_path", "none.py"), "--train.agent_func_path none.py"),
        (("--reward.remote_url", "none.py"), "--reward.remote_url none.py"),
        (("--reward.remote_url", "localhost:5000"), "--reward.remote_url localhost:5000"),
        (("--reward.remote_url", "http://127.0.0.1:9/score"), "--reward.remote_url http://127.0.0.1:9/score"),
        (("--reward.remote_url", "http://127.0.0.1:x"), "--reward.remote_url http://127.0.0.1:x"),
    ],
)
def test_mistake_is_named(dry, flags, named):
    code, _, said = dry(*flags)
    assert code == 2 and named in said and len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("flag", "text", "code"),
    [
        ("train.agent_func_path", "def f(:", 2),
        ("train.agent_func_path", "x = 1", 2),
        ("train.agent_func_path", "\0", 2),
        ("train.agent_func_path", "raise SystemExit\nclass AgentExecutor: ...", 0),  # it is not run
        ("train.agent_func_path", "from somewhere import Agent as AgentExecutor", 0),
        ("reward.remote_url", "def reward(queries): ...", 2),
        ("reward.remote_url", "if True:\n    def reward_func(queries, prompts, labels): ...", 0),
    ],
)
def test_python_file_is_loaded_early(dry, tmp_path, flag, text, code):
    (tmp_path / "file.py").write_text(text)
    found, _, said = dry(f"--{flag}", "file.py")
    assert found == code and (code == 0 or f"--{flag} file.py" in said)
