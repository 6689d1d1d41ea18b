"""The pages for a student, for someone with OpenRLHF's scripts, a cluster engineer, someone with recorded completions
and someone who extends it: their first commands work as they are written on the files of a demo."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from recorded_runs import whole_run, write_lines

from openrlhf_math.cli import main

ROOT = Path(__file__).parents[2]
# The page, and what its commands leave.
PAGES = {
    "laptop.md": ["demo.html"],
    "from-openrlhf.md": [],
    "cluster.md": [],
    "recorded.md": ["accuracy.png", "graded.jsonl", "scored", "scored.html"],
    "plugins.md": [],
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A directory with runs/demo as the demo leaves it, as far as the pages name its files, and with the examples."""
    here = tmp_path_factory.mktemp("checkout")
    demo = whole_run(here / "runs" / "demo")
    assert main(["tiny-world", str(demo / "world")]) == 0
    for stage in ("sft", "grpo"):
        shutil.copytree(demo / "world" / "model", demo / stage / "model")
    boxed = [f"so \\boxed{{{n}}}" for n in (1, 2, 2)]
    rows = [{"problem": f"{n} + 1 = ?", "gold": "2", "responses": boxed, "scores": [0.9, 0.2, n / 9]} for n in range(9)]
    (demo / "rerank").mkdir()
    write_lines(demo / "rerank" / "attempts.jsonl", rows)
    (here / "examples").symlink_to(ROOT / "examples")
    return here


def first_commands(page: str) -> list[str]:
    """The commands of the page's first block, which comes before any text."""
    text = (ROOT / "docs" / page).read_text()
    block = re.match(r"# [^\n]*\n\n```sh\n(.*?)```", text, re.S)[1]
    return block.replace("\\\n", " ").splitlines()


@pytest.mark.parametrize("page", PAGES)
def test_first_commands_work_as_written(page, demo, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(shutil.copytree(demo, tmp_path / "here", symlinks=True))
    before = {path.name for path in Path().iterdir()}
    for line in first_commands(page):
        words = shlex.split(line, comments=True)
        if words[0].startswith("PYTHONPATH="):
            monkeypatch.syspath_prepend(words.pop(0).partition("=")[2])
        assert words[0] == "openrlhf-math"
        assert main(words[1:]) == 0, capsys.readouterr().err
    assert sorted({path.name for path in Path().iterdir()} - before) == PAGES[page]
    shown = capsys.readouterr()
    if page == "from-openrlhf.md":
        assert "--actor.model_name_or_path" in shown.err and "256" in shown.err
    if page == "cluster.md":
        assert "devices: 32" in shown.out and json.loads(shown.out[shown.out.index("\n[") :])[0]["state"]
