"""The runs of `openrlhf-math experiments rules`: one set of replies, a student for each rule."""

import json
from functools import partial
from pathlib import Path

from openrlhf_math.cli.demo import SHORT_SFT_FLAGS, evaluate, teacher
from openrlhf_math.cli.stages import Stages, stage
from openrlhf_math.evaluation.compare import read_run
from openrlhf_math.experiments import rules
from openrlhf_math.experiments.settings import Settings

REPLIES = ("config.json", "journal.jsonl")  # of a distillation
TOKENS = "training_tokens"


def rules_of(problems: int) -> dict[str, tuple]:
    """The flags of `distill` by the name of the rule. problems: that are asked."""
    return {
        rules.PLAIN: ("--keep", "verified"),
        "verified, 1 answer": ("--keep", "verified", "--keep-n", 1),
        "all": ("--keep", "all"),
        "shortest": ("--keep", "shortest"),
        "longest": ("--keep", "longest"),
        "best": ("--keep", "best"),
        "longest questions": ("--keep", "verified", "--questions", f"longest:{problems // 4}"),
    }


def run_rules(stages: Stages, settings: Settings) -> rules.Findings:
    """Each rule chooses among the same replies; students learn from as many tokens as the smallest dataset has."""
    runs: dict[str, list[rules.Run]] = {name: [] for name in rules_of(settings.problems)}
    for seed in range(settings.seeds):
        base = f"seed_{seed}/problems_{settings.problems}_attempts_{settings.attempts}"
        replies = stages.once(f"{base}/replies", partial(_ask, seed=seed, settings=settings))
        chosen = {
            name: _chosen(stages, base, replies, name, flags, seed, settings)
            for name, flags in rules_of(settings.problems).items()
        }
        budget = min(sum(row[TOKENS] for row in rows) for rows in chosen.values())
        for name, rows in chosen.items():
            some = rules.within(rows, budget, seed)
            heldout = _learned(stages, f"{base}/{_folder(name)}", replies, name, some, seed)
            questions = len({row["problem"] for row in some})
            runs[name].append(rules.Run(sum(row[TOKENS] for row in some), len(some), questions, heldout))
    return rules.analyse(runs)


def _ask(folder: Path, seed: int, settings: Settings) -> None:
    """A world, and the teacher's replies to its first problems."""
    folder.mkdir(parents=True)
    stage(f"seed {seed}: problems, tokenizer and a tiny Qwen", "tiny-world", folder / "world", "--seed", seed)
    with teacher() as address:
        _distill(folder / "world", folder / "traces", address, seed, settings)


def _distill(world: Path, output: Path, address: str, seed: int, settings: Settings, flags: tuple = ()) -> None:
    stage(
        f"seed {seed}: traces, {' '.join(map(str, flags)) or 'all that the teacher writes'}", "distill", "--problems",
        world / "train.jsonl", "--max-problems", settings.problems, "--output", output, "--base-url", address,
        "--model", "tiny-teacher", "--seed", seed, "--attempts", settings.attempts, "--max-tokens", 400, *flags,
    )  # fmt: skip


def _chosen(
    stages: Stages, base: str, replies: Path, name: str, flags: tuple, seed: int, settings: Settings
) -> list[dict]:
    """The rows of the dataset that a rule makes of the replies, with the tokens that a student learns of each."""

    def work(folder: Path) -> None:
        folder.mkdir(parents=True)
        for file in REPLIES:
            (folder / file).write_bytes((replies / "traces" / file).read_bytes())
        # The address is not asked: all replies are there.
        _distill(replies / "world", folder, "http://127.0.0.1:9/v1", seed, settings, flags)

    from pyarrow import parquet
    from transformers import AutoTokenizer

    folder = stages.once(f"{base}/traces_{_folder(name)}", work)
    tokenizer = AutoTokenizer.from_pretrained(replies / "world" / "model", trust_remote_code=False)
    rows = parquet.read_table(folder / "dataset" / "data" / "train.parquet").to_pylist()
    return [row | {TOKENS: len(tokenizer(row["response"])["input_ids"]) + 1} for row in rows]  # and the end


def _learned(stages: Stages, name: str, replies: Path, rule: str, rows: list[dict], seed: int) -> list:
    """A student's results on the held-out problems, after one pass over the rows."""

    def work(folder: Path) -> None:
        folder.mkdir(parents=True)
        dataset = folder / "train.jsonl"
        with dataset.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps({key: row[key] for key in ("problem", "response")}) + "\n" for row in rows)
        world = replies / "world"
        stage(
            f"seed {seed}: SFT on {rule}", "sft", "--model.model_name_or_path", world / "model", "--data.dataset",
            dataset, "--math.run_dir", folder / "sft", "--train.seed", seed, *SHORT_SFT_FLAGS,
        )  # fmt: skip
        title = f"seed {seed}: {rule} on held-out problems"
        evaluate(title, folder / "sft" / "model", world / "heldout.jsonl", folder / "eval", seed)

    folder = stages.once(name, work)
    (results,) = read_run(folder / "eval").values()
    return results


def _folder(name: str) -> str:
    return name.replace(", ", "_").replace(" ", "_")
