"""Chat templates that write today's date: a run has one date, and a resumed one has the prompts that it began with."""

import contextlib
import datetime
import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from public_tokenizers import qwen25
from transformers.utils import chat_template_utils

import openrlhf_math
from openrlhf_math.cli import main
from openrlhf_math.data import chat_date
from openrlhf_math.data.prompts import chat_text
from openrlhf_math.errors import UserError

FIRST, LATER = "2026-03-30", "2026-04-01"
QUESTION = [{"role": "user", "content": "1+1?"}]
TURNS = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
# How published templates ask for the date, and what they write on the first day.
WAYS = {
    "Llama 3.2": (
        "{%- if not date_string is defined %}{%- if strftime_now is defined %}"
        "{%- set date_string = strftime_now('%d %b %Y') %}{%- else %}{%- set date_string = '26 Jul 2024' %}{%- endif %}"
        "{%- endif %}{{- 'Today Date: ' + date_string + '\n' }}",
        "Today Date: 30 Mar 2026\n",
    ),
    "gpt-oss": (
        "{%- macro head() %}{{- 'Current date: ' + strftime_now('%Y-%m-%d') + '\n' }}{%- endmacro %}{{- head() }}",
        "Current date: 2026-03-30\n",
    ),
    "Granite 3.3": (
        "{%- if messages[0].role != 'system' %}{{- \"Today's Date: \" + strftime_now('%B %d, %Y') + '.\n' }}"
        "{%- endif %}",
        "Today's Date: March 30, 2026.\n",
    ),
    "SmolLM3": (
        "{%- set today = strftime_now('%d %B %Y') -%}{{- 'Today Date: ' ~ today ~ '\n' -}}",
        "Today Date: 30 March 2026\n",
    ),
    "Mistral Small 3.2": (
        "{%- set today = strftime_now('%Y-%m-%d') %}{{- 'The current date is ' + today + '.\n' }}",
        "The current date is 2026-03-30.\n",
    ),
}
TEMPLATE = WAYS["Llama 3.2"][0] + TURNS


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Sets the day of all clocks here. No date is settled, as in a new process."""
    monkeypatch.setenv(chat_date.VARIABLE, "")

    def set_day(day: str) -> None:
        class Date(datetime.date):
            @classmethod
            def today(cls):
                return cls.fromisoformat(day)

        class Datetime(datetime.datetime):
            @classmethod
            def now(cls, tz=None):
                return cls.fromisoformat(day)

        monkeypatch.delenv(chat_date.VARIABLE, raising=False)
        monkeypatch.setattr(chat_date, "date", Date)
        monkeypatch.setattr(chat_template_utils, "datetime", Datetime)

    set_day(FIRST)
    return set_day


@pytest.fixture
def model(model_folder):
    """A tiny model with weights."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    vocabulary = json.loads((model_folder / "config.json").read_text())["vocab_size"]
    sizes = {"hidden_size": 32, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = Qwen2Config(vocab_size=vocabulary, num_key_value_heads=1, max_position_embeddings=4096, **sizes)
    Qwen2ForCausalLM(config).save_pretrained(model_folder)
    return str(model_folder)


def with_template(template: str):
    tokenizer = qwen25().tokenizer
    tokenizer.chat_template = template
    return chat_date.dated(tokenizer)


@pytest.mark.parametrize("way", WAYS)
def test_template_writes_the_settled_date_at_any_time(clock, way):
    head, written = WAYS[way]
    tokenizer = with_template(head + TURNS)
    chat_date.settle(None)
    clock(LATER)
    chat_date.settle(None, FIRST)
    text = chat_text(tokenizer, QUESTION)
    assert text == written + "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n"
    assert chat_date.checked_date(None, "model", tokenizer) == FIRST
    undated = qwen25().tokenizer
    undated.chat_template = head + TURNS
    assert chat_text(undated, QUESTION) != text  # the clock is what else it would be


def test_date_is_kept_past_midnight_and_reaches_workers(clock):
    from openrlhf_math.colocation.layout import worker_environment

    chat_date.settle(None)
    tokenizer = with_template(TEMPLATE)
    before = chat_text(tokenizer, QUESTION)
    assert worker_environment("cpu", 0)[chat_date.VARIABLE] == FIRST
    settled = chat_date.chat_date()
    clock(LATER)
    chat_date.settle(None, settled)
    assert chat_text(tokenizer, QUESTION) == before


def test_which_date_holds():
    for given, kept, expected in ((None, None, FIRST), ("2024-07-26", None, "2024-07-26"), (None, LATER, LATER),
                                  (LATER, LATER, LATER)):  # fmt: skip
        chat_date.settle(given, kept)
        assert chat_date.chat_date() == expected
    with pytest.raises(UserError) as raised:
        chat_date.settle("2024-07-26", LATER, "runs/one")
    assert "2024-07-26" in str(raised.value) and LATER in str(raised.value) and "runs/one" in str(raised.value)


@pytest.mark.parametrize("text", ["", "today", "2024-02-30", "26 Jul 2024", "2024-13-01"])
def test_invalid_date_is_refused(model_folder, problem_file, tmp_path, capsys, text):
    given = ("--model", model_folder, "--benchmark", problem_file, "--output", tmp_path / "out", "--chat-date", text)
    assert main(["eval", *map(str, given)]) == 2 and "--chat-date" in capsys.readouterr().err


def test_unused_date_is_refused():
    plain, llama31 = with_template(TURNS), with_template("{{- date_string | default('26 Jul 2024') }}" + TURNS)
    assert chat_date.checked_date(None, "model", plain) is None
    with pytest.raises(UserError, match="leave it out"):
        chat_date.checked_date("2024-07-26", "model", plain)
    with pytest.raises(UserError) as raised:
        chat_date.checked_date("2024-08-01", "model", llama31)
    (variables,) = re.findall(r"--chat-template-kwargs '(.*)'", str(raised.value))
    assert chat_text(llama31, QUESTION, json.loads(variables)).startswith("01 Aug 2024<")


def grpo(model: str, problems: Path, run: Path, *flags: str) -> str:
    """The prompts of a run, which ends where it would train."""
    command = ["grpo", "--model", model, "--problems", problems, "--output", run, "--math.device", "cpu",
               "--rollout.batch_size", "4", "--math.instruction", "", "--data.max_len", "512", *flags]  # fmt: skip
    assert main(list(map(str, command))) == 0
    return (run / "prompts" / "0.jsonl").read_text()


def sft(model: str, problems: Path, run: Path, *flags: str) -> list:
    """The rows of a run, which ends where it would train."""
    from pyarrow import parquet

    command = ["sft", "--model", model, "--problems", problems, "--output", run, "--math.device", "cpu",
               "--train.batch_size", "4", "--train.micro_batch_size", "4", *flags]  # fmt: skip
    assert main(list(map(str, command))) == 0
    return parquet.read_table(run / "traces" / "train0.parquet").to_pylist()


def eval_(model: str, problems: Path, run: Path, *flags: str) -> list:
    """The tokens of the prompts of an evaluation, whose engine writes nothing."""
    from openrlhf_math.evaluation import evaluate

    asked = []

    def complete(requests, sampling, stop):
        asked.extend(request.prompt for request in requests)
        raise UserError("no engine")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "_sampler", lambda *_: SimpleNamespace(complete=complete))
        command = ["eval", "--model", model, "--benchmark", problems, "--output", run, "--device", "cpu", *flags]
        assert main(list(map(str, command))) == 2
    return asked


@pytest.mark.parametrize("command, resume", [(grpo, ("--resume",)), (sft, ("--resume",)), (eval_, ())])
def test_resumed_run_keeps_its_prompts(clock, model, problem_file, tmp_path, monkeypatch, capsys, command, resume):
    from openrlhf_math.colocation import preloaded
    from openrlhf_math.grpo import driver
    from openrlhf_math.sft import launch

    monkeypatch.setattr(preloaded, "begin", lambda *_: None)
    for module in (driver, launch):
        monkeypatch.setattr(module, "train", lambda *_, **__: None)
    run = tmp_path / "run"
    first = command(model, problem_file, run)
    assert first
    clock(LATER)
    assert command(model, problem_file, run, *resume) == first
    assert chat_date.kept_in(run / "config.json") == FIRST
    clock(LATER)
    assert command(model, problem_file, tmp_path / "other") != first
    assert command(model, problem_file, tmp_path / "given", "--chat-date", FIRST) == first
    capsys.readouterr()
    with pytest.raises(AssertionError):  # of the exit code
        command(model, problem_file, run, *resume, "--chat-date", "2024-07-26")
        raise AssertionError  # what eval's code is in any case
    error = capsys.readouterr().err
    assert "--chat-date 2024-07-26" in error and FIRST in error


def without_date(run: Path, name: str = "config.json") -> None:
    """As a version left it that recorded no date. The files are of the first day."""
    settings = json.loads((run / name).read_text())
    for holder in (settings, settings.get("math", {})):
        holder.pop(chat_date.KEY, None)
    (run / name).write_text(json.dumps(settings))
    first = datetime.datetime.fromisoformat(f"{FIRST}T12:00").timestamp()
    for file in run.iterdir():
        os.utime(file, (first, first))


@pytest.mark.parametrize("command, resume", [(grpo, ("--resume",)), (sft, ("--resume",)), (eval_, ())])
def test_run_of_an_earlier_version_needs_its_date(
    clock, model, problem_file, tmp_path, monkeypatch, capsys, command, resume
):
    from openrlhf_math.colocation import preloaded
    from openrlhf_math.grpo import driver
    from openrlhf_math.sft import launch

    monkeypatch.setattr(preloaded, "begin", lambda *_: None)
    for module in (driver, launch):
        monkeypatch.setattr(module, "train", lambda *_, **__: None)
    run = tmp_path / "run"
    first = command(model, problem_file, run)
    without_date(run)
    before = (run / "config.json").read_bytes()
    clock(LATER)
    capsys.readouterr()
    with contextlib.suppress(AssertionError):  # of the exit code
        assert not command(model, problem_file, run, *resume)
    error = capsys.readouterr().err
    assert "--chat-date" in error and FIRST in error and LATER not in error
    assert (run / "config.json").read_bytes() == before
    assert command(model, problem_file, run, *resume, "--chat-date", FIRST) == first
    clock(LATER)
    assert command(model, problem_file, run, *resume) == first


@pytest.mark.parametrize("template", [TEMPLATE, TURNS])
def test_dates_of_journals_of_an_earlier_version(clock, model, tmp_path, monkeypatch, template):
    """As `distill` and `prm label` do it; a template that writes no date needs none."""
    from openrlhf_math.runs.journal import open_journal

    tokenizer, run = with_template(template), tmp_path / "run"

    def begin(given: str | None) -> str | None:
        monkeypatch.delenv(chat_date.VARIABLE, raising=False)
        chat_date.settle_for(given, run, run / "config.json")
        found = chat_date.checked_date(given, "model", tokenizer)
        open_journal(run, {"seed": 0} | ({chat_date.KEY: found} if found else {})).close()
        return found

    open_journal(run, {"seed": 0}).close()
    if template == TURNS:
        assert begin(None) is None
        return
    with pytest.raises(UserError, match="--chat-date"):
        begin(None)
    assert begin(LATER) == LATER and begin(None) == LATER
    with pytest.raises(UserError, match=LATER):
        begin(FIRST)


def test_commands_with_a_journal_ask_for_the_date(clock, model, problem_file, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text("{}")
    attempts = tmp_path / "attempts.jsonl"
    attempts.write_text(json.dumps({"problem": "1+1?", "gold": "2", "responses": ["a\n\nb"]}) + "\n")
    for command in (
        ("distill", "--teacher", "engine", "--problems", problem_file),
        ("prm", "label", attempts, "--source", "monte-carlo"),
    ):
        given = [*command, "--model", model, "--output", run, "--device", "cpu"]
        assert main(list(map(str, given))) == 2 and "--chat-date" in capsys.readouterr().err


def test_solve_asks_for_the_date_of_rows_of_an_earlier_version(clock, model, tmp_path, monkeypatch, capsys):
    from openrlhf_math.cli import solve

    output, problems, used = tmp_path / "solved.jsonl", tmp_path / "problems.jsonl", []
    problems.write_text("".join(json.dumps({"problem": f"{n}+1?", "answer": "2"}) + "\n" for n in range(2)))
    output.write_text(json.dumps({"number": 0, "problem": "0+1?", "gold": "2", "answer": "2", "responses": []}) + "\n")
    monkeypatch.setattr(solve, "_solutions", lambda *_: iter(used.append(chat_date.chat_date()) or ()))
    command = ["solve", "--model", model, "--problems", problems, "--output", output, "--device", "cpu", "--json"]
    before = output.read_bytes()
    assert main([*map(str, command), "--resume"]) == 2 and "--chat-date" in capsys.readouterr().err
    assert output.read_bytes() == before and not used
    assert main([*map(str, command), "--resume", "--chat-date", FIRST]) == 0 and used == [FIRST]


def test_solve_resumes_with_the_date_of_its_rows(clock, model, tmp_path, monkeypatch, capsys):
    from openrlhf_math.cli import solve

    output, problems, used = tmp_path / "solved.jsonl", tmp_path / "problems.jsonl", []
    problems.write_text("".join(json.dumps({"problem": f"{n}+1?", "answer": "2"}) + "\n" for n in range(2)))
    row = {"number": 0, "problem": "0+1?", "gold": "2", "answer": "2", "responses": [], chat_date.KEY: FIRST}
    output.write_text(json.dumps(row) + "\n")
    monkeypatch.setattr(solve, "_solutions", lambda *_: iter(used.append(chat_date.chat_date()) or ()))
    clock(LATER)
    command = ["solve", "--model", model, "--problems", problems, "--output", output, "--device", "cpu", "--json"]
    assert main([*map(str, command), "--resume"]) == 0 and used == [FIRST]
    assert main([*map(str, command), "--resume", "--chat-date", LATER]) == 2 and FIRST in capsys.readouterr().err


def test_plans_show_the_date(model, problem_file, tmp_path, capsys):
    for command, flags in (
        ("grpo", ("--math.device", "cpu", "--rollout.batch_size", "4")),
        ("sft", ("--math.device", "cpu", "--train.batch_size", "4", "--train.micro_batch_size", "4")),
        ("distill", ("--teacher", "engine", "--device", "cpu")),
    ):
        given = ("--model", model, "--problems", problem_file, "--output", tmp_path / command, "--chat-date", LATER)
        assert main([command, "--dry-run", *map(str, given), *flags]) == 0
        assert LATER in capsys.readouterr().out


def test_every_tokenizer_is_loaded_with_the_date():
    aside = ("model_folder.py", "scoring_engine.py", "experiment_distillation.py")  # the first two do it later on
    found = 0
    for path in Path(openrlhf_math.__file__).parent.rglob("*.py"):
        code = "".join(path.read_text().split())
        loads = code.count("AutoTokenizer.from_pretrained(")
        assert path.name in aside or loads == code.count("prepared(AutoTokenizer.from_pretrained("), path
        found += loads
    assert found >= 5


def test_scores_of_an_earlier_version_need_their_date(clock, model, tmp_path, capsys):
    run, rows = tmp_path / "run", tmp_path / "rows.jsonl"
    run.mkdir()
    (run / "scores.json").write_text("{}")
    rows.write_text(json.dumps({"problem": "1+1?", "gold": "2", "response": "\\boxed{2}"}) + "\n")
    command = ("eval", "--completions", rows, "--output", run, "--scorer", "reward-model", "--scorer-model", model)
    assert main([*map(str, command), "--device", "cpu"]) == 2
    assert "--chat-date" in capsys.readouterr().err
