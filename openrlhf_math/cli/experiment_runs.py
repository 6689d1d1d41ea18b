"""The runs of the poster's experiments in miniature, as a sequence of this package's commands."""

import json
from collections.abc import Iterable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np

from openrlhf_math.cli.demo import SAMPLING_FLAGS, SFT_FLAGS, attempt

# run_rules, run_teacher: found by their names, as those below.
from openrlhf_math.cli.experiment_distillation import (  # noqa: F401
    EVALUATED,
    grpo,
    heldout,
    larger_teacher,
    run_rules,
    run_teacher,
    taught_student,
)
from openrlhf_math.cli.stages import Stages, stage
from openrlhf_math.data.tiny_world.problems import check_lines
from openrlhf_math.data.tiny_world.server import read_story
from openrlhf_math.evaluation.compare import Result
from openrlhf_math.evaluation.recorded import Judged, judge_all, read_recorded
from openrlhf_math.experiments import curriculum, efficiency, kl, mismatch, rerank, tool
from openrlhf_math.experiments.over_seeds import EvaluatedRun, spread
from openrlhf_math.experiments.settings import Settings
from openrlhf_math.prm.measures import auc
from openrlhf_math.rerank.steps import LINE_END, split_steps
from openrlhf_math.rewards import GradingPool, RewardConfig
from openrlhf_math.runs.records import read_records

# A KL loss against the reference model, with the estimator of https://arxiv.org/abs/2402.03300, equation 4.
KL_FLAGS = ("--algo.kl.use_loss", "--algo.kl.estimator", "k3")

SCORER = "likelihood"  # of the larger model

CORRECTIONS = ("off", "tis")

BY_STEPS = ("--math.difficulty_key", "difficulty")  # of a problem's answer

TOOL_SFT_FLAGS = (
    "--math.instruction", "", "--no-data.apply_chat_template", "--data.max_len", "128",
    "--train.batch_size", "16", "--train.micro_batch_size", "16", "--train.max_epochs", "1", "--adam.lr", "2e-3",
)  # fmt: skip
# Problems and completions of a GRPO step: an interpreter starts for most completions, which takes longer than to write
# them.
TOOL_GROUPS, TOOL_GROUP_SIZE = 8, 4
TOOL_GRPO_FLAGS = (
    "--math.answer_style", "boxed", "--data.max_len", "128", "--rollout.max_new_tokens", "64",
    "--rollout.batch_size", TOOL_GROUPS, "--rollout.n_samples_per_prompt", TOOL_GROUP_SIZE, "--actor.adam.lr", "3e-4",
    "--eval.temperature", "1", "--eval.n_samples_per_prompt", "1",
)  # fmt: skip
TOOL_WAYS = {tool.WITH: ("--math.tool", "python", "--math.tool_calls", "2"), tool.WITHOUT: ()}


def run_kl(stages: Stages, settings: Settings) -> kl.Findings:
    """Each coefficient from the same student, seed by seed."""
    students: list[list[Result]] = []
    runs: dict[float, list[kl.Run]] = {one: [] for one in settings.coefficients}
    for seed in range(settings.seeds):
        student = taught_student(stages, seed)
        students.append(heldout(stages, seed, student, student / "sft", "student"))
        for coefficient, same in runs.items():
            trained = _trained(stages, seed, student, coefficient, settings.steps)
            same.append(kl.Run(_rows(trained), heldout(stages, seed, student, trained, trained.name)))
    return kl.analyse(students, runs)


def run_efficiency(stages: Stages, settings: Settings) -> efficiency.Findings:
    """The model before and after GRPO without a reference model, timed in turns."""
    runs = []
    for seed in range(settings.seeds):
        student = taught_student(stages, seed)
        trained = _trained(stages, seed, student, 0.0, settings.steps)
        sides = {"student": student / "sft", trained.name: trained}
        results = {name: heldout(stages, seed, student, run, name) for name, run in sides.items()}
        timed: dict[str, list[dict]] = {name: [] for name in sides}
        for turn in range(settings.repeats):
            for name, run in sides.items():
                timed[name].append(_timed(stages, seed, student, run, name, turn))
        before, after = (
            efficiency.Model(results[name], [one["seconds"] for one in times], times[0]["completions"])
            for name, times in timed.items()
        )
        runs.append(efficiency.Run(_rows(trained), before, after))
    return efficiency.analyse(runs)


def run_rerank(stages: Stages, settings: Settings) -> rerank.Findings:
    """Attempts of the demo's student after GRPO, each step scored by how likely a larger model finds it."""
    files = []
    for seed in range(settings.seeds):
        student = taught_student(stages, seed)
        larger = larger_teacher(stages, student, seed) / "sft" / "model"
        longer = stages.once(f"seed_{seed}/longer_sft", partial(_learn_longer, student, seed))
        trained = grpo(stages, seed, longer, student / "world", "longer", "GRPO, demo's student", settings.steps)
        solve = partial(
            attempt, f"seed {seed}: {settings.attempts} attempts at each held-out problem, scored", trained / "model",
            larger, student / "world" / "heldout.jsonl", settings.attempts, seed=seed, scorer=SCORER,
        )  # fmt: skip
        attempts = stages.once(f"seed_{seed}/attempts_{settings.attempts}_{SCORER}_{trained.name}", solve)
        files.append(attempts / "attempts.jsonl")
    return rerank.analyse(_judged(files), spread(list(map(_auc_of_steps, files))))


def _learn_longer(student: Path, seed: int, folder: Path) -> None:
    """Write model/, which has learned from the student's traces as the demo's student does."""
    stage(
        f"seed {seed}: SFT: the demo's student, two passes over the same traces", "sft",
        "--model.model_name_or_path", student / "world" / "model", "--data.dataset", student / "traces" / "dataset",
        "--math.run_dir", folder, "--train.seed", seed, *SFT_FLAGS,
    )  # fmt: skip


def _auc_of_steps(attempts: Path) -> float:
    """How well scores distinguish right steps from wrong ones, up to the first wrong step of an attempt.

    The exact checker says which are right. A step after a wrong one may follow from it without another error.
    """
    scores: list[float] = []
    right: list[bool] = []
    for row in read_recorded(attempts):
        story = read_story(row.problem or "")
        if story is None or row.scores is None:
            raise ValueError(f"{row.place} is not a scored attempt of the tiny world")
        for response, found in zip(row.responses, row.scores, strict=True):
            labels = check_lines(story, split_steps(response or "", LINE_END))
            judged = labels.index(False) + 1 if False in labels else len(labels)
            scores += found[:judged] if isinstance(found, Sequence) else []
            right += labels[:judged] if isinstance(found, Sequence) else []
    return auc(np.array(scores), np.array(right))


def run_curriculum(stages: Stages, settings: Settings) -> curriculum.Findings:
    """Each order of the problems from the same student, evaluated on the way."""
    third = max(1, settings.steps // 3)
    orders = {
        curriculum.PLAIN: (),
        "window": ("--math.curriculum", "window", *BY_STEPS),
        "staged": (
            "--math.curriculum", "staged", "--math.curriculum_stages", f"0:2,{third}:3,{2 * third}:4", *BY_STEPS
        ),
    }  # fmt: skip
    runs: dict[str, list[EvaluatedRun]] = {name: [] for name in orders}
    for seed in range(settings.seeds):
        student = taught_student(stages, seed)
        for name, flags in orders.items():
            trained = _ordered(stages, seed, student, name, flags, settings.steps)
            runs[name].append(EvaluatedRun(_rows(trained), read_records(trained / "eval.jsonl").rows))
    return curriculum.analyse(runs)


def run_mismatch(stages: Stages, settings: Settings) -> mismatch.Findings:
    """An exact engine, and one with the same inexact weights for each correction, from the same student."""
    students: list[list[Result]] = []
    runs: dict[str, list[mismatch.Run]] = {name: [] for name in (mismatch.EXACT, *CORRECTIONS)}
    for seed in range(settings.seeds):
        student = taught_student(stages, seed)
        students.append(heldout(stages, seed, student, student / "sft", "student"))
        for name, same in runs.items():
            if name == mismatch.EXACT:
                trained = _trained(stages, seed, student, 0.0, settings.steps)
            else:
                off = ("--math.engine_noise", settings.noise, "--math.max_logprob_gap", "inf")
                title = f"GRPO, an engine with weight noise {settings.noise:g}, correction {name}"
                flags = (*off, "--math.rollout_correction", name)
                name = f"noise_{settings.noise:g}_{name}"
                trained = grpo(stages, seed, student / "sft", student / "world", name, title, settings.steps, *flags)
            same.append(mismatch.Run(_rows(trained), heldout(stages, seed, student, trained, trained.name)))
    return mismatch.analyse(students, runs, settings.noise)


def run_tool(stages: Stages, settings: Settings) -> tool.Findings:
    """Both ways from the same student, seed by seed."""
    runs: dict[str, list[EvaluatedRun]] = {name: [] for name in TOOL_WAYS}
    for seed in range(settings.seeds):
        student = stages.once(f"seed_{seed}/tool_student", partial(_teach_calls, seed=seed))
        for name, flags in TOOL_WAYS.items():
            trained = _with_tool(stages, seed, student, name, flags, settings.steps)
            rows, evaluations = (read_records(trained / file).rows for file in ("metrics.jsonl", "eval.jsonl"))
            runs[name].append(EvaluatedRun(rows, evaluations))
    return tool.analyse(runs)


def _teach_calls(folder: Path, seed: int) -> None:
    """Write world/ and sft/ into `folder`."""
    world = folder / "world"
    folder.mkdir(parents=True)
    stage(
        f"seed {seed}: products, traces, tokenizer and a tiny Qwen", "tiny-world", world, "--problems", "products",
        "--seed", seed,
    )  # fmt: skip
    stage(
        f"seed {seed}: SFT: the student learns to write calls, to copy, and to guess", "sft",
        "--model.model_name_or_path", world / "model", "--data.dataset", world / "traces.jsonl",
        "--math.run_dir", folder / "sft", "--train.seed", seed, *TOOL_SFT_FLAGS,
    )  # fmt: skip


def _with_tool(stages: Stages, seed: int, student: Path, name: str, flags: tuple, steps: int) -> Path:
    """The folder of a GRPO run, evaluated after the last step."""
    world = student / "world"
    size = (*TOOL_GRPO_FLAGS, "--data.max_samples", TOOL_GROUPS * steps)
    evaluated = ("--eval.dataset", world / "heldout.jsonl", "--eval.steps", steps)
    folder = name.replace(" ", "_")
    return grpo(stages, seed, student / "sft", world, folder, f"GRPO {name}", steps, *size, *evaluated, *flags)


def _trained(stages: Stages, seed: int, student: Path, coefficient: float, steps: int) -> Path:
    """The folder of a GRPO run from the student with a KL coefficient."""
    title = f"GRPO, KL {coefficient:g}" if coefficient else "GRPO, KL 0, no reference model"
    flags = ("--algo.kl.init_coef", f"{coefficient:g}", *(KL_FLAGS if coefficient else ()))
    name = f"kl_{coefficient:g}"
    return grpo(stages, seed, student / "sft", student / "world", name, title, steps, *flags)


def _ordered(stages: Stages, seed: int, student: Path, name: str, order: tuple, steps: int) -> Path:
    """The folder of a GRPO run from the student on problems in another order, evaluated on the way."""
    evaluated = ("--eval.dataset", student / "world" / "heldout.jsonl", *EVALUATED)
    title = f"GRPO, problems {name}"
    return grpo(stages, seed, student / "sft", student / "world", name, title, steps, *order, *evaluated)


def _timed(stages: Stages, seed: int, student: Path, run: Path, name: str, turn: int) -> dict:
    """Seconds that a run's model takes for all completions of `heldout`: what `experiments speed` writes."""

    def work(folder: Path) -> None:
        folder.mkdir(parents=True)
        stage(
            f"seed {seed}: {name} speed, turn {turn + 1}", "experiments", "speed", "--model", run / "model",
            "--benchmark", student / "world" / "heldout.jsonl", "--output", folder / "speed.json", "--seed", seed,
            *SAMPLING_FLAGS,
        )  # fmt: skip

    folder = stages.once(f"seed_{seed}/speed_{name}_turn_{turn}", work)
    return json.loads((folder / "speed.json").read_text())


def _rows(trained: Path) -> list[dict]:
    return read_records(trained / "metrics.jsonl").rows


def _judged(files: Iterable[Path]) -> list[list[Judged]]:
    with closing(GradingPool(RewardConfig(style="think"))) as pool:
        return [list(judge_all(read_recorded(file), pool)) for file in files]
