"""The example scripts parse, and the GPU ones resolve to what they are meant to ask for. Every command that is written
anywhere is one."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import written_commands

from openrlhf_math.cli import demo, grpo
from openrlhf_math.training.upstream_flags import GRPO, translated

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES.remove(ROOT / "docs" / "mistakes.md")  # its commands are wrong; tests/unit/test_mistakes.py compares it
WRITTEN = [*PAGES, *sorted(EXAMPLES.glob("*.[sp][hy]"))]
ENVIRONMENT = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

# What README says of GRPO, in words and in the resolved settings.
SAVINGS = (
    "rows without padding, the completions of a group behind one copy of their prompt",
    "old log-probabilities: skipped",
    '"shared_prefix": true', '"dynamic_batch_enable": true', '"packing_samples": false', '"max_tokens_per_gpu": 16384',
)  # fmt: skip
ASKED_FOR = {
    "grpo_qwen2.5_1.5b_gsm8k.sh": (
        "devices: 8 (cuda), training and inference take turns", "reference model: none", *SAVINGS,
    ),
    "grpo_r1_distill_7b.sh": ("devices: 8 (cuda), training and inference take turns", "ZeRO-3", *SAVINGS),
    "grpo_qwen2.5_32b_multinode.sh": (
        "devices: 32 (cuda), training and inference take turns", "ZeRO-3", *SAVINGS,
    ),
    "slurm_grpo.sh": ("devices: 32 (cuda), training and inference take turns", "ZeRO-3", *SAVINGS),
    "sft_qwen2.5_32b_multinode.sh": (
        "processes: 32 (cuda)", "ZeRO-3", "without padding, without logits kept", "model states: 3.7 GiB",
    ),
    "prm_qwen2.5_math_7b.sh": ("processes: 8 (cuda)", "ZeRO-3", "without padding", "model states: 13.0 GiB"),
}  # fmt: skip


@pytest.mark.parametrize("script", sorted(path.name for path in EXAMPLES.glob("*.sh")))
def test_script_is_executable_and_parses(script):
    assert os.access(EXAMPLES / script, os.X_OK)
    subprocess.run(["bash", "-n", EXAMPLES / script], check=True)


@pytest.mark.parametrize("script", ASKED_FOR)
def test_gpu_script_resolves(script, tmp_path):
    result = subprocess.run(
        [EXAMPLES / script, "--dry-run"], capture_output=True, text=True, cwd=tmp_path, env=ENVIRONMENT
    )
    assert result.returncode == 0, result.stderr
    for part in ASKED_FOR[script]:
        assert part in result.stdout
    assert not list(tmp_path.iterdir()), "a dry run writes nothing"


@pytest.mark.parametrize(
    ("address", "words", "named"),
    [
        ("http://127.0.0.1:9", ["true"], "http://127.0.0.1:9"),  # where nobody listens
        ("ray://127.0.0.1:10001", ["true"], "ray://127.0.0.1:10001"),
        ("http://127.0.0.1:9", [], "command"),
    ],
)
def test_job_without_a_cluster_is_one_sentence(address, words, named):
    script = EXAMPLES / "submit_ray_job.sh"
    result = subprocess.run(
        [script, *words], capture_output=True, text=True, env=ENVIRONMENT | {"RAY_ADDRESS": address}
    )
    assert result.returncode == 2 and result.stdout == ""
    assert len(result.stderr.splitlines()) == 1 and named in result.stderr


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.name)
def test_commands_of_pages_and_examples_parse(path):
    for words in written_commands.commands_in(path):
        try:
            written_commands.check(words)
        except SystemExit as error:
            pytest.fail(f"{path.name}: openrlhf-math {' '.join(words)}: {error}")


# Of docker, and of the benchmarks.
OF_OTHERS = {"--shm-size", "--ipc", "--gpus", "--ulimit", "--network", "--cpuset-cpus", "--cpus", "--math", "--no-FLAG"}
for script in (ROOT / "tests" / "benchmarks").glob("*.py"):
    OF_OTHERS |= set(re.findall(r"add(?:_argument)?\(\s*[\"'](--[\w-]+)", script.read_text()))


def test_every_flag_that_a_page_names_exists():
    known = written_commands.known_flags() | OF_OTHERS
    parser = grpo.build_parser("grpo")
    older = re.findall(r"--[\w.]+", (ROOT / "docs" / "from-openrlhf.md").read_text())
    known |= {flag for flag in older if translated([flag, "1"], parser, GRPO).changes}
    assert [
        (page.name, flag) for page in PAGES for flag in written_commands.flags_named_in(page) if flag not in known
    ] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_between_pages_lead_to_files(page):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_the_laptop_script_has_the_flags_of_the_demo():
    commands = list(written_commands.commands_in(EXAMPLES / "laptop.sh"))
    steps = demo.build_parser("demo").get_default("steps")
    expected = {
        "distill": demo.DISTILL_FLAGS,
        "sft": demo.SFT_FLAGS,
        "grpo": (*demo.GRPO_FLAGS, "--data.max_samples", demo.GROUPS * steps),
        "eval": demo.EVAL_FLAGS,
        "prm": demo.PRM_FLAGS,
        "solve": demo.SOLVE_FLAGS,
    }
    for name, flags in expected.items():
        written = next(words for words in commands if words[0] == name and words[1] != "label")
        for flag, value in zip(flags[::2], flags[1::2], strict=True):
            assert written[written.index(flag) + 1] == str(value), (name, flag)


def test_every_example_is_on_a_page():
    output = "".join(path.read_text() for path in PAGES)
    assert [path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".sh") and path.name not in output] == []


PAGE = r"""Say `openrlhf-math prm label` and
```sh
A=1 openrlhf-math eval --model M \
  --output runs/e | tee log  # so
openrlhf-math eval: --model is missing
```
"""
SCRIPT = """# openrlhf-math no
torchrun -m openrlhf_math sft --math.run_dir "$run/sft" "${more[@]}" && true
"""


def test_commands_are_found_anywhere_on_a_page(tmp_path):
    page, script, module = tmp_path / "page.md", tmp_path / "script.sh", tmp_path / "module.py"
    page.write_text(PAGE)
    script.write_text(SCRIPT)
    module.write_text('"""What.\n\nopenrlhf-math grpo ... --dry-run\n"""\nX = "openrlhf-math none"\n')
    found = [words for path in (page, script, module) for words in written_commands.commands_in(path)]
    assert found == [
        ["eval", "--model", "M", "--output", "runs/e"],
        ["prm", "label", "..."],
        ["sft", "--math.run_dir", "1/sft"],
        ["grpo", "...", "--dry-run"],
    ]


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "--model", "M"],
        ["eval", "--models", "M"],
        ["eval", "--seed", "first"],
        ["grpo", "...", "--math.kurriculum", "window"],
        ["prm", "lable", "..."],
        ["prm", "label", "rows.jsonl"],
    ],
)
def test_invalid_command_is_found(words):
    with pytest.raises(SystemExit):
        written_commands.check(words)
