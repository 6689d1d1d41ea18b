"""Help at 80 columns: no line is wider, no default is None, and nothing is lost."""

import argparse
import importlib

import pytest

from openrlhf_math.cli import COMMANDS, main
from openrlhf_math.cli.completion import whole_parser
from openrlhf_math.cli.parsing import wrapped

TEXT = """A paragraph that was written by hand at a width of sixty four
characters, so that its lines belong together.

things:
  first   what it is, which takes more room than there is here,
          as one can see
  second  another
  openrlhf-math grade rows.jsonl --output graded.jsonl --timeout 3   at most three seconds
  openrlhf-math grade - \\
    --gold-key answer --response-key text
short
not joined to it
"""


def test_paragraphs_and_entries_are_rewrapped():
    assert wrapped(TEXT, 40) == [
        "A paragraph that was written by hand at",
        "a width of sixty four characters, so",
        "that its lines belong together.",
        "",
        "things:",
        "  first   what it is, which takes more",
        "          room than there is here, as",
        "          one can see",
        "  second  another",
        "  openrlhf-math grade rows.jsonl \\",
        "    --output graded.jsonl --timeout 3",
        "      at most three seconds",
        "  openrlhf-math grade - \\",
        "    --gold-key answer \\",
        "    --response-key text",
        "short",
        "not joined to it",
    ]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_fits(name, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    module = importlib.import_module(f"openrlhf_math.cli.{name.replace('-', '_')}")
    parser = module.build_parser(name)
    modes = [one.choices for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    for words in [[name], *([name, mode] for mode in (modes[0] if modes else ()))]:
        with pytest.raises(SystemExit) as ended:
            main([*words, "--help"])
        assert ended.value.code == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line for line in lines if len(line) > 80 or "default: None" in line] == []


@pytest.mark.parametrize("width", ["0", "1", "3", "20", "-1", "wide"])
def test_help_is_shown_at_any_width(width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", width)
    for name in ("solve", "grade"):
        with pytest.raises(SystemExit) as ended:
            main([name, "--help"])
        assert ended.value.code == 0 and "--output" in capsys.readouterr().out


def test_version_names_the_stack(capsys):
    from importlib.metadata import version

    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    lines = capsys.readouterr().out.splitlines()
    assert ended.value.code == 0
    assert lines[0].startswith("openrlhf_math ") and f"torch {version('torch')}" in lines


@pytest.mark.parametrize(("package", "named"), [("xxhash", "[files]"), ("transformers", "make setup")])
def test_package_that_is_not_installed_is_one_line(package, named, monkeypatch, capsys):
    from openrlhf_math.cli import curate

    def lacks(prog):
        raise ModuleNotFoundError(f"No module named '{package}'", name=package)

    monkeypatch.setattr(curate, "build_parser", lacks)
    assert main(["curate"]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and package in said and named in said


# By hand: every command that has a use for the thing.
THE_SAME = {
    "--model": "distill eval prm/label solve serve grpo sft prm/train doctor experiments/speed",
    "--problems": "curate distill eval solve grpo sft prm/train experiments/speed",
    "--problem-key": "curate distill eval grade vote solve grpo sft",
    "--answer-key": "curate distill eval grade vote solve grpo",
    "--response-key": "eval grade vote sft",
    "--output": "curate distill eval grade prm/label solve report grpo sft prm/train demo tiny-world experiments/kl",
    "--instruction": "distill eval prm/label solve serve grpo sft",
    "--attempts": "distill eval solve serve grpo experiments/speed",
    "--max-tokens": "distill eval prm/label solve serve grpo",
    "--temperature": "distill eval prm/label solve serve grpo",
    "--max-context": "distill eval prm/label solve serve grpo sft prm/train",
    "--max-problems": "distill eval solve grpo sft prm/train",
    "--device": "distill eval prm/label solve serve grpo sft prm/train",
    "--seed": "distill eval prm/label solve serve grpo sft prm/train demo tiny-world vote",
    "--resume": "solve grpo sft prm/train",
    "--chat-date": "distill eval prm/label solve serve grpo sft",
    "--scorer": "eval solve serve prm/train",
    "--license": "curate distill",
}


@pytest.fixture(scope="module")
def whole():
    return whole_parser()


@pytest.mark.parametrize("flag", THE_SAME)
def test_each_concept_has_one_flag_name(flag, whole):
    for command in THE_SAME[flag].split():
        parser = whole
        for word in command.split("/"):
            (modes,) = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
            parser = modes.choices[word]
        assert flag in parser._option_string_actions, command


@pytest.mark.parametrize("words", [["prm", "train"], ["sft"], ["grpo"]], ids=" ".join)
def test_short_flag_equals_the_long_one(words, whole):
    parser = whole
    training = {"--model": "model.model_name_or_path", "--problems": "data.dataset"}
    long = {
        "prm": training,
        "sft": training | {"--response-key": "data.output_key"},
        "grpo": {
            "--model": "actor.model_name_or_path", "--problems": "data.prompt_dataset",
            "--problem-key": "data.input_key", "--answer-key": "data.label_key", "--style": "math.answer_style",
        },
    }[words[0]] | {"--output": "math.run_dir"}  # fmt: skip
    for short, setting in long.items():
        value = "think" if short == "--style" else "something"
        assert vars(parser.parse_args([*words, short, value]))[setting] == value
    assert vars(parser.parse_args([*words, "--resume"]))["ckpt.load_enable"] is True
    assert vars(parser.parse_args([*words, "--seed", "7"]))["train.seed"] == 7


def test_demo_prints_its_plan_first(monkeypatch, tmp_path, capsys):
    from openrlhf_math.cli import demo

    def chain(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "chain", chain)
    assert main(["demo", "--output", str(tmp_path / "demo"), "--steps", "80"]) == 130
    said = capsys.readouterr().out
    assert "5 minutes" in said and "80 steps" in said
    assert max(map(len, said.splitlines())) <= 80
