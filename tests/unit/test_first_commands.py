"""Every page begins with commands that work as they are written on the files of a demo, for whoever reads it first."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from recorded_runs import evaluation, rollout_row, whole_run, write_lines

from openrlhf_math.cli import main
from openrlhf_math.runs import rollouts

ROOT = Path(__file__).parents[2]
# The page, and what its commands leave.
PAGES = {
    "cluster": [], "colocation": ["phases.html"], "commands": [], "curate": ["problems"], "curriculum": [],
    "data": ["problems"], "distill": [], "doctor": [], "eval": [], "faults": [], "from-openrlhf": [],
    "grade": ["graded.jsonl"], "grpo": [], "grpo-teacher": [], "grpo-tool": [], "laptop": ["demo.html"],
    "long-context": [], "lora": [], "losses": [], "models": [], "openrlhf": [], "overlap": [], "plugins": [],
    "prm": ["labels"], "recorded": ["accuracy.png", "graded.jsonl", "scored", "scored.html"],
    "report": ["grpo.html", "grpo.md", "report.html"], "resume": [], "rewards": [], "rollouts": [], "sft": [],
    "status": [], "troubleshooting": [], "vote": ["accuracy.png"],
}  # fmt: skip
# A part of what is shown.
SHOWN = {
    "cluster": "devices: 32", "curriculum": "curriculum: window", "from-openrlhf": "--actor.model_name_or_path",
    "grpo-teacher": "teacher", "grpo-tool": "tool: python", "lora": "rank 16", "losses": "dapo", "rewards": "length",
    "rollouts": "1 completion,", "status": '"state": "finished"',
}  # fmt: skip
ENGINES = re.compile(r"openrlhf-math eval --model")  # these take longer than a unit test; integration tests have them


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A directory with runs/demo as the demo leaves it, as far as the pages name its files, and with the examples."""
    here = tmp_path_factory.mktemp("checkout")
    demo = whole_run(here / "runs" / "demo")
    assert main(["tiny-world", str(demo / "world")]) == 0
    for stage in ("sft", "grpo"):
        shutil.copytree(demo / "world" / "model", demo / stage / "model")
    heldout = [json.loads(line) for line in (demo / "world" / "heldout.jsonl").read_text().splitlines()[:40]]
    attempts = evaluation(demo / "prm" / "attempts", [True] * 40) / "completions.jsonl"
    for path in (*demo.glob("eval_*/completions.jsonl"), attempts):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            problem = heldout[row["problem_index"]]
            answer = f"<think>\nso\n</think>\n\nThe answer is \\boxed{{{problem['answer']}}}."
            row |= {"problem": problem["problem"], "gold": problem["answer"], "response": answer}
        write_lines(path, rows)
    traces = [
        {"problem": f"{n} + 1?", "response": f"<think>\n{n + 1}\n</think>\n\n\\boxed{{{n + 1}}}"} for n in range(128)
    ]
    (demo / "traces" / "dataset" / "data").mkdir(parents=True)
    pyarrow.parquet.write_table(pa.Table.from_pylist(traces), demo / "traces" / "dataset" / "data" / "train.parquet")
    kept = rollout_row(reward=0.0, outcome="wrong", truncated=True)
    rollouts.write_step(rollouts.path_of(demo / "grpo" / "rollouts", 30), {name: [kept[name]] for name in kept})
    boxed = [f"so \\boxed{{{n}}}" for n in (1, 2, 2)]
    rows = [{"problem": f"{n} + 1 = ?", "gold": "2", "responses": boxed, "scores": [0.9, 0.2, n / 9]} for n in range(9)]
    (demo / "rerank").mkdir()
    write_lines(demo / "rerank" / "attempts.jsonl", rows)
    (here / "examples").symlink_to(ROOT / "examples")
    return here


def first_commands(page: str) -> list[str]:
    """The commands of the page's first block, which comes before any text."""
    text = (ROOT / "docs" / f"{page}.md").read_text()
    block = re.match(r"# [^\n]*\n\n```sh\n(.*?)```", text, re.S)[1]
    return block.replace("\\\n", " ").splitlines()


def test_other_pages_begin_with_longer_commands_or_none():
    others = {page.stem for page in (ROOT / "docs").glob("*.md")} - PAGES.keys()
    assert others == {
        "architecture", "benchmarks", "container", "experiments", "mistakes", "poster", "python", "recipes", "scorers",
        "serve", "solve", "tool",
    }  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
def test_first_commands_work_as_written(page, demo, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(shutil.copytree(demo, tmp_path / "here", symlinks=True))
    before = {path.name for path in Path().iterdir()}
    for line in first_commands(page):
        words = shlex.split(line, comments=True)
        if words[0].startswith("PYTHONPATH="):
            monkeypatch.syspath_prepend(words.pop(0).partition("=")[2])
        assert words[0] == "openrlhf-math"
        if ENGINES.match(line):
            continue
        try:
            code = main(words[1:])
        except SystemExit as ended:  # --help, --version
            code = ended.code
        assert code == 0 or words[1] == "doctor", capsys.readouterr().err
    assert sorted({path.name for path in Path().iterdir()} - before) == PAGES[page]
    shown = "".join(capsys.readouterr())
    assert SHOWN.get(page, "") in shown
    if page == "cluster":
        assert json.loads(shown[shown.index("\n[") : shown.rindex("]") + 1])[0]["state"]
