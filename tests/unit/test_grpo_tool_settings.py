"""`--math.tool` and its flags: what they become, and one sentence for what would be wrong with a tool."""

import json
from types import SimpleNamespace

import pytest

from openrlhf_math.cli import main
from openrlhf_math.data.prompts import INSTRUCTION
from openrlhf_math.data.tiny_world.world import build_tokenizer
from openrlhf_math.errors import UserError
from openrlhf_math.grpo.faults.resume import is_free
from openrlhf_math.grpo.flags import build_parser
from openrlhf_math.grpo.metrics import gauge_values, tool_shares
from openrlhf_math.grpo.plan import tool_line
from openrlhf_math.grpo.rollout.tool_turns import FIELDS, tools_of
from openrlhf_math.grpo.settings import as_json, resolve
from openrlhf_math.report.plots import step_seconds, tokens_a_second
from openrlhf_math.tools import isolation
from openrlhf_math.tools.turns import BLOCK_INSTRUCTION

MINIMAL = ["--actor.model_name_or_path", "some/model-1.5B", "--data.prompt_dataset", "some/data"]
TOOL = ("--math.tool", "python")


def settings(*more: str) -> SimpleNamespace:
    return resolve(build_parser("grpo").parse_args([*MINIMAL, *more]))


def test_tool_is_off_without_the_flag():
    args = settings()
    assert args.math.tool is None and args.math.instruction == INSTRUCTION
    assert tool_line(args.math.tool, 1) == "tool: none"


def test_every_flag_sets_its_field():
    given = {"math.tool_form": "template", "math.tool_calls": 3, "math.tool_seconds": 2.5, "math.tool_memory": 256,
             "math.tool_output": 100, "math.tool_kernels": 7, "math.tool_isolation": "none"}  # fmt: skip
    assert given.keys() == FIELDS.keys()
    tool = settings(*TOOL, *(str(word) for flag, value in given.items() for word in (f"--{flag}", value))).math.tool
    assert [getattr(tool, FIELDS[flag]) for flag in given] == list(given.values())
    assert tool.limits().memory_mb == 256 and tool.limits().seconds == 2.5


def test_settings_are_in_the_configuration():
    assert json.loads(as_json(settings(*TOOL)))["math"]["tool"]["calls"] == 8


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--math.tool_calls", "3"), "--math.tool_calls"),
        ((*TOOL, "--math.tool_calls", "0"), "--math.tool_calls"),
        ((*TOOL, "--math.tool_calls", "100000"), "--math.tool_calls"),
        ((*TOOL, "--math.tool_seconds", "nan"), "--math.tool_seconds"),
        ((*TOOL, "--math.tool_seconds", "0"), "--math.tool_seconds"),
        ((*TOOL, "--math.tool_memory", "1"), "--math.tool_memory"),
        ((*TOOL, "--math.tool_kernels", "0"), "--math.tool_kernels"),
        ((*TOOL, "--math.tool_form", "template", "--no-data.apply_chat_template"), "--no-data.apply_chat_template"),
        ((*TOOL, "--algo.advantage.estimator", "gae"), "--algo.advantage.estimator"),
        ((*TOOL, "--algo.advantage.estimator", "reinforce", "--algo.advantage.gamma", "0.9"), "--algo.advantage.gamma"),
        ((*TOOL, "--reward.remote_url", "http://localhost:1"), "--reward.remote_url"),
        ((*TOOL, "--reward.model_name_or_path", "some/reward"), "--reward.model_name_or_path"),
        ((*TOOL, "--train.async_enable"), "--train.async_enable"),
        ((*TOOL, "--train.full_determinism_enable"), "--train.full_determinism_enable"),
    ],
)
def test_invalid_value_names_the_flag(flags, named, capsys):
    assert main(["grpo", *MINIMAL, *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert named in line


def test_machine_without_isolation_is_refused_before_start(monkeypatch, capsys):
    monkeypatch.setattr(isolation, "_possible", list)
    for more in ((), ("--dry-run",)):
        assert main(["grpo", *MINIMAL, *TOOL, *more]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "--math.tool python" in line and "--math.tool_isolation none" in line


def test_default_instruction_explains_blocks_and_a_custom_one_is_kept():
    assert settings(*TOOL).math.instruction == f"{BLOCK_INSTRUCTION}\n{INSTRUCTION}"
    assert settings(*TOOL, "--math.instruction", "").math.instruction == ""
    assert settings(*TOOL, "--math.instruction", "Use it.").math.instruction == "Use it."
    assert settings(*TOOL, "--math.tool_form", "template").math.instruction == INSTRUCTION, "the chat template says it"


def test_tool_without_template_support_is_refused():
    tool = settings(*TOOL, "--math.tool_form", "template", "--math.tool_isolation", "none").math.tool
    with pytest.raises(UserError, match="--math.tool_form block"):
        tools_of(tool, build_tokenizer(["1 + 1"]), "model")


def test_resumed_run_keeps_its_tool():
    fixed = ("math.tool", "math.tool.calls", "math.tool.form", "math.tool.seconds", "math.tool.output")
    assert not any(is_free(name) for name in fixed)
    assert is_free("math.tool.kernels") and is_free("math.tool.isolation")


# --- what is reported of it


def test_shares_are_of_all_calls_and_of_all_tokens():
    means = {"tool/calls": 1.5, "tool/failed_calls": 0.3, "tool/tokens": 20.0, "response_length": 80.0}
    assert tool_shares(means) == {"tool/failed_rate": pytest.approx(0.2), "tool/token_share": 0.25}
    assert tool_shares(means | {"tool/calls": 0.0, "tool/failed_calls": 0.0})["tool/failed_rate"] == 0.0
    assert tool_shares({"response_length": 80.0}) == {}


def test_tokens_per_second_count_model_tokens():
    record = {"step": 1, "completion_length": 80.0, "tool/tokens": 20.0, "rollout/num_samples": 10.0,
              "timing/step_total": 2.0}  # fmt: skip
    assert gauge_values(record, 3)["tokens_per_second"] == 300.0
    assert tokens_a_second(step_seconds)(record) == 300.0
    del record["tool/tokens"]
    assert gauge_values(record, 3)["tokens_per_second"] == tokens_a_second(step_seconds)(record) == 400.0


def test_engines_of_a_node_share_its_memory(monkeypatch):
    monkeypatch.setattr(
        "openrlhf_math.grpo.rollout.tool_turns.places_for", lambda memory_mb: {1024: 12, 512: 24}[memory_mb]
    )
    tool = settings(*TOOL).math.tool
    assert [tool.places(engines) for engines in (1, 4, 99)] == [12, 3, 1]
    assert settings(*TOOL, "--math.tool_memory", "512").math.tool.places(2) == 12
    assert settings(*TOOL, "--math.tool_kernels", "7").math.tool.places(4) == 7
