"""What is passed to vLLM's engine and to the chat template: names are checked before anything loads."""

import json

import pytest
from faulty_endpoint import FaultyEndpoint
from public_tokenizers import qwen25

from openrlhf_math.cli import main

TEMPLATE = (
    "{%- for m in messages %}{{ m.role }}: {% generation %}{{ m.content }}{%- endgeneration %}\n{% endfor -%}"
    "{% set shown = not hidden %}{% if enable_thinking is defined %}{{ enable_thinking }}{% endif %}A: "
)


@pytest.fixture
def model_folder(model_folder):
    """With weights of no tensor, which these commands look for."""
    (model_folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    return model_folder


def command(name: str, model, problem_file, tmp_path) -> list[str]:
    distill = ["--problems", str(problem_file), "--output", str(tmp_path / "out"), "--teacher", "engine"]
    given = {"solve": ["1+1?"], "serve": ["--port", "0"], "distill": distill,
             "eval": ["--benchmark", str(problem_file), "--output", str(tmp_path / "out")]}[name]  # fmt: skip
    return [name, "--model", str(model), *given]


@pytest.mark.parametrize("name", ["solve", "serve", "eval", "distill"])
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--engine-args", '{"kv_cash_dtype": "fp8"}'], "did you mean kv_cache_dtype?"),
        (["--engine-args", '{"max_model_len": 5}'], "use --max-context"),
        (["--engine-args", '{"max_num_seqs": "many"}'], "max_num_seqs is 'many'; input should be a valid integer"),
        (["--engine-args", '{"worker_extension_cls": "x"}'], "worker_extension_cls is set by this command"),
        (["--chat-template-kwargs", '{"enable_thinkin": false}'], "no enable_thinkin, only enable_thinking, hidden"),
        (["--base-url", "http://127.0.0.1:9/v1", "--engine-args", '{"dtype": "float32"}'], "--engine-args"),
    ],
    ids=str,
)  # fmt: skip
def test_unknown_name_is_refused_before_loading(name, flags, said, model_folder, problem_file, tmp_path, capsys):
    assert main([*command(name, model_folder, problem_file, tmp_path), *flags]) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error


def test_unsupported_reasoning_effort_is_refused(model_folder, problem_file, tmp_path, capsys):
    tokenizer = qwen25().tokenizer
    tokenizer.chat_template = "{{ messages[0].content }}"
    tokenizer.save_pretrained(model_folder)
    (model_folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    assert main([*command("eval", model_folder, problem_file, tmp_path), "--reasoning-effort", "low"]) == 2
    assert "--reasoning-effort low" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--engine-args", "--chat-template-kwargs"])
@pytest.mark.parametrize("value", ["[]", "{", "5", '{"a": NaN'])
def test_non_object_is_refused(flag, value, model_folder, problem_file, tmp_path):
    assert main([*command("solve", model_folder, problem_file, tmp_path), flag, value]) == 2


def test_engine_model_gets_the_variables(model_folder):
    from openrlhf_math.data.problems import Problem
    from openrlhf_math.evaluation.benchmarks import Sampling
    from openrlhf_math.evaluation.evaluate import tokenized
    from openrlhf_math.evaluation.problem_sets import ProblemSet, Question
    from openrlhf_math.evaluation.settings import EvalSettings
    from openrlhf_math.rewards import RewardConfig

    texts = {}
    for drawn in ({}, {"chat_template_kwargs": {"enable_thinking": False}}, {"reasoning_effort": "high"}):
        settings = EvalSettings(
            str(model_folder), model_folder, 0, "chat", "", "cpu", 1, None, False, RewardConfig(), drawn=drawn
        )
        one = ProblemSet("a", [Question(Problem("1+1?", "2", "set", 1), {})], Sampling())
        (ids,) = tokenized(one, settings)
        texts[json.dumps(drawn)] = qwen25().tokenizer.decode(ids).removeprefix("user: 1+1?")
    assert list(texts.values()) == ["A: ", "FalseA: ", "TrueA: "]


@pytest.mark.parametrize("name", ["solve", "eval", "distill"])
def test_endpoint_gets_them_in_its_fields(name, problem_file, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with FaultyEndpoint() as server:
        flags = ["--base-url", server.url, "--reasoning-effort", "low", "--chat-template-kwargs", '{"deep": [1]}']
        given = command(name, "tiny", problem_file, tmp_path)
        given = ["solve", "--model", "tiny", "--file", str(problem_file)] if name == "solve" else given
        more = ["--teacher", "endpoint"] if name == "distill" else ["--workers", "1"]
        assert main([*given, *flags, *more]) in (None, 0)
        assert server.bodies
        for body in server.bodies:
            assert (body["reasoning_effort"], body["chat_template_kwargs"]) == ("low", {"deep": [1]})


@pytest.mark.parametrize(
    "flags",
    [["--engine-args", '{"dtype": "float32"}'], ["--reasoning-effort", "low"], ["--chat-template-kwargs", "{}"]],
)
def test_replayed_teacher_accepts_none(flags, problem_file, tmp_path, capsys):
    rows = [json.loads(line) | {"responses": ["\\boxed{1}"]} for line in problem_file.read_text().splitlines()]
    problem_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = ["distill", "--problems", str(problem_file), "--output", str(tmp_path / "out"), "--teacher", "recorded"]
    status = main([*given, "--model", str(problem_file), "--dry-run", *flags])
    assert status == (0 if flags[1] == "{}" else 2)
    assert flags[1] == "{}" or flags[0] in capsys.readouterr().err


def test_traces_of_other_engine_arguments_are_not_mixed(problem_file, tmp_path, monkeypatch):
    from openrlhf_math.cli.distill import build_parser, read_settings
    from openrlhf_math.errors import UserError
    from openrlhf_math.runs.journal import open_journal

    monkeypatch.setattr("openrlhf_math.modeling.model_folder.check_chat_model", lambda *args: None)
    monkeypatch.setattr("openrlhf_math.modeling.model_folder.load_tokenizer", lambda *args: qwen25().tokenizer)

    def settings(*flags):
        given = ["--problems", str(problem_file), "--output", str(tmp_path / "out")]
        given += ["--teacher", "engine", "--model", "m"]
        return read_settings(build_parser("distill").parse_args([*given, *flags]))

    first = ["--engine-args", '{"dtype": "float32"}']
    assert settings(*first).engine.engine_args == {"dtype": "float32"}
    output, identity = tmp_path / "out", settings(*first).identity()
    open_journal(output, identity).close()
    open_journal(output, identity).close()
    for flags in ([], ["--engine-args", '{"dtype": "bfloat16"}']):
        with pytest.raises(UserError, match="--engine-args"):
            open_journal(output, settings(*flags).identity())


def test_list_of_benchmarks_fits_a_terminal(capsys):
    with pytest.raises(SystemExit):
        main(["eval", "--help"])
    lines = capsys.readouterr().out.splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("benchmarks"))
    end = next(number for number, line in enumerate(lines) if line.strip().startswith("FILE "))
    assert end - begin > 15 and max(map(len, lines[begin:end])) <= 80


@pytest.mark.parametrize(
    "command",
    [
        ["eval", "--benchmark", "problems.jsonl", "--output", "out"],
        ["distill", "--teacher", "engine", "--problems", "problems.jsonl", "--output", "out"],
        ["prm", "label", "problems.jsonl", "--source", "monte-carlo", "--output", "out"],
        ["solve", "1+1?"],
        ["serve"],
        ["grpo", "--problems", "problems.jsonl", "--output", "out"],
        ["grpo", "--problems", "problems.jsonl", "--output", "out", "--eval.temperature", "3", "--temperature", "1"],
    ],
)
def test_temperature_that_the_engine_refuses_is_refused_before_it_loads(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "problems.jsonl").write_text('{"problem": "1+1?", "answer": "2"}\n')
    model = tmp_path / "model"
    model.mkdir()
    for name in ("config.json", "tokenizer_config.json"):
        (model / name).write_text("{}")
    given = ["--temperature", "3"] if "--temperature" not in command else []
    assert main([*command, "--model", str(model), *given]) == 2
    error = capsys.readouterr().err
    assert "emperature 3" in error and "2" in error.partition("emperature 3")[2]


def test_temperature_of_an_agent_is_checked(tmp_path, capsys):
    agents, model = tmp_path / "agents.json", tmp_path / "model"
    agents.write_text('[{"name": "bold", "temperature": 2.1}]')
    model.mkdir()
    for name in ("config.json", "tokenizer_config.json"):
        (model / name).write_text("{}")
    assert main(["solve", "1+1?", "--model", str(model), "--agents", str(agents)]) == 2
    assert "bold" in capsys.readouterr().err
