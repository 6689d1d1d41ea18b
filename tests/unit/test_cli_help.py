"""Help at 80 columns: nothing but commands to copy is wider, and nothing is lost."""

import argparse
import importlib

import pytest

from openrlhf_math.cli import COMMANDS, main
from openrlhf_math.cli.help_text import wrapped

TEXT = """A paragraph that was written by hand at a width of sixty four
characters, so that its lines belong together.

things:
  first   what it is, which takes more room than there is here,
          as one can see
  second  another
  openrlhf-math grade rows.jsonl --output graded.jsonl --timeout 3
short
not joined to it
"""


def test_paragraphs_and_entries_are_refilled():
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
        "  openrlhf-math grade rows.jsonl --output graded.jsonl --timeout 3",
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
        wide = [
            line for line in lines if len(line) > 80 and not line.strip().startswith(("openrlhf-math ", "curl ", "{"))
        ]
        assert wide == []


def test_the_version_names_the_stack(capsys):
    from importlib.metadata import version

    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    lines = capsys.readouterr().out.splitlines()
    assert ended.value.code == 0
    assert lines[0].startswith("openrlhf_math ") and f"torch {version('torch')}" in lines


@pytest.mark.parametrize(("package", "named"), [("xxhash", "[files]"), ("transformers", "make setup")])
def test_a_package_that_is_not_installed_is_one_line(package, named, monkeypatch, capsys):
    from openrlhf_math.cli import curate

    def lacks(prog):
        raise ModuleNotFoundError(f"No module named '{package}'", name=package)

    monkeypatch.setattr(curate, "build_parser", lacks)
    assert main(["curate"]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and package in said and named in said
