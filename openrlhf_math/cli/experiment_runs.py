"""The runs of the poster's experiments in miniature, as a sequence of this package's commands."""

import json
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from openrlhf_math.cli.demo import EVAL_FLAGS, SAMPLING_FLAGS, attempt, evaluate, train

# run_rules, run_teacher, run_tool: found by their names, as those below.
from openrlhf_math.cli.experiment_distillation import larger_teacher, run_rules, run_teacher, taught_student  # noqa: F401
from openrlhf_math.cli.experiment_tool import run_tool  # noqa: F401
from openrlhf_math.cli.stages import Stages, command, stage
from openrlhf_math.evaluation.compare import Result, read_run
from openrlhf_math.evaluation.recorded import Judged, judge_all, read_recorded
from openrlhf_math.experiments import curriculum, efficiency, kl, mismatch, rerank
from openrlhf_math.experiments.over_seeds import spread
from openrlhf_math.experiments.settings import Settings
from openrlhf_math.rewards import GradingPool, RewardConfig
from openrlhf_math.runs.records import read_records

# A KL loss against the reference model, with the estimator of https://arxiv.org/abs/2402.03300, equation 4.
KL_FLAGS = ("--algo.kl.use_loss", "--algo.kl.estimator", "k3")

PRM_SCORER = "trl-prm"
# A larger model learns longer, from each solution once a pass.
PRM_FLAGS = (
    "--data.max_len", "320", "--train.batch_size", "16", "--train.micro_batch_size", "16", "--train.max_epochs", "6",
    "--adam.lr", "1e-3", "--eval.steps", "250",
)  # fmt: skip

CORRECTIONS = ("off", "tis")

BY_STEPS = ("--math.difficulty_key", "difficulty")  # of a problem's answer
EVAL_STEPS = 4
EVALUATED = ("--eval.steps", EVAL_STEPS, "--eval.temperature", "1", "--eval.n_samples_per_prompt", "2")


def run_kl(stages: Stages, settings: Settings) -> kl.Findings:
    """Each coefficient from the same student, seed by seed."""
    students: list[list[Result]] = []
    runs: dict[float, list[kl.Run]] = {one: [] for one in settings.coefficients}
    for seed in range(settings.seeds):
        student = _student(stages, seed)
        students.append(_heldout(stages, seed, student, student / "sft", "student"))
        for coefficient, same in runs.items():
            trained = _trained(stages, seed, student, coefficient, settings.steps)
            same.append(kl.Run(_rows(trained), _heldout(stages, seed, student, trained, trained.name)))
    return kl.analyse(students, runs)


def run_efficiency(stages: Stages, settings: Settings) -> efficiency.Findings:
    """The model before and after GRPO without a reference model, timed in turns."""
    runs = []
    for seed in range(settings.seeds):
        student = _student(stages, seed)
        trained = _trained(stages, seed, student, 0.0, settings.steps)
        sides = {"student": student / "sft", trained.name: trained}
        heldout = {name: _heldout(stages, seed, student, run, name) for name, run in sides.items()}
        timed: dict[str, list[dict]] = {name: [] for name in sides}
        for turn in range(settings.repeats):
            for name, run in sides.items():
                timed[name].append(_timed(stages, seed, student, run, name, turn))
        before, after = (
            efficiency.Model(heldout[name], [one["seconds"] for one in times], times[0]["completions"])
            for name, times in timed.items()
        )
        runs.append(efficiency.Run(_rows(trained), before, after))
    return efficiency.analyse(runs)


def run_rerank(stages: Stages, settings: Settings) -> rerank.Findings:
    """Attempts of the model after GRPO, scored by a larger PRM, which has learned from attempts at other problems."""
    files, quality = [], []
    for seed in range(settings.seeds):
        titled = partial("seed {}: {}".format, seed)
        student = taught_student(stages, titled, seed)
        larger = larger_teacher(stages, titled, student, seed) / "sft" / "model"
        trained = _trained(stages, seed, student, 0.0, settings.steps)
        model, world = trained / "model", student / "world"
        learn = partial(_learn_to_score, titled, model, larger, student, settings.prm_problems, seed)
        prm = stages.once(f"{trained.parent.name}/larger_prm_{settings.prm_problems}_{trained.name}", learn)
        title = titled(f"{settings.attempts} attempts at each held-out problem, scored")
        solve = partial(
            attempt, title, model, prm, world / "heldout.jsonl", settings.attempts, seed=seed, scorer=PRM_SCORER
        )
        attempts = stages.once(f"{trained.parent.name}/attempts_{settings.attempts}_{prm.name}", solve)
        files.append(attempts / "attempts.jsonl")
        quality.append(_auc(prm / "run"))
    known = [one for one in quality if one is not None]
    return rerank.analyse(_judged(files), spread(known) if known else None)


def _learn_to_score(
    titled: Callable[[str], str], model: Path, larger: Path, student: Path, problems: int, seed: int, folder: Path
) -> None:
    """Write attempts/ of `model` at so many problems, labels/ of them and run/, the larger model as a PRM, to `folder`.

    The problems are first those of GRPO, then those of the student's traces.
    """
    from pyarrow import parquet

    folder.mkdir(parents=True)
    lines = (student / "world" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    curated = parquet.read_table(student / "problems" / "data", columns=["problem", "answer"]).to_pylist()
    chosen = [*lines, *map(json.dumps, curated)][:problems]
    (folder / "problems.jsonl").write_text("\n".join(chosen) + "\n", encoding="utf-8")
    stage(
        titled(f"attempts at {len(chosen)} training problems, for a process reward model"), "eval", "--model", model,
        "--benchmark", folder / "problems.jsonl", "--output", folder / "attempts", "--seed", seed, *EVAL_FLAGS,
    )  # fmt: skip
    command(
        "prm", "label", "--source", "tiny-world", "--separator", "\\n", "--heldout", "0.05", "--distinct",
        "--output", folder / "labels", folder / "attempts" / "completions.jsonl",
    )  # fmt: skip
    stage(
        titled("a larger model learns to score steps"), "prm", "train", "--model.model_name_or_path", larger,
        "--math.scorer", PRM_SCORER, "--data.dataset", folder / "labels" / "train.parquet",
        "--eval.dataset", folder / "labels" / "heldout.parquet", "--math.run_dir", folder / "run",
        "--train.seed", seed, *PRM_FLAGS,
    )  # fmt: skip


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
    runs: dict[str, list[curriculum.Run]] = {name: [] for name in orders}
    for seed in range(settings.seeds):
        student = _student(stages, seed)
        for name, flags in orders.items():
            trained = _ordered(stages, seed, student, name, flags, settings.steps)
            runs[name].append(curriculum.Run(_rows(trained), read_records(trained / "eval.jsonl").rows))
    return curriculum.analyse(runs)


def run_mismatch(stages: Stages, settings: Settings) -> mismatch.Findings:
    """An exact engine, and one with the same inexact weights for each correction, from the same student."""
    students: list[list[Result]] = []
    runs: dict[str, list[mismatch.Run]] = {name: [] for name in (mismatch.EXACT, *CORRECTIONS)}
    for seed in range(settings.seeds):
        student = _student(stages, seed)
        students.append(_heldout(stages, seed, student, student / "sft", "student"))
        for name, same in runs.items():
            if name == mismatch.EXACT:
                trained = _trained(stages, seed, student, 0.0, settings.steps)
            else:
                off = ("--math.engine_noise", settings.noise, "--math.max_logprob_gap", "inf")
                kind = f"an engine with weight noise {settings.noise:g}, correction {name}"
                flags = (*off, "--math.rollout_correction", name)
                trained = _grpo(stages, seed, student, f"noise_{settings.noise:g}_{name}", kind, settings.steps, *flags)
            same.append(mismatch.Run(_rows(trained), _heldout(stages, seed, student, trained, trained.name)))
    return mismatch.analyse(students, runs, settings.noise)


def _student(stages: Stages, seed: int) -> Path:
    return taught_student(stages, partial("seed {}: {}".format, seed), seed)


def _trained(stages: Stages, seed: int, student: Path, coefficient: float, steps: int) -> Path:
    """The folder of a GRPO run from the student with a KL coefficient."""
    kind = f"KL {coefficient:g}" if coefficient else "KL 0, no reference model"
    flags = ("--algo.kl.init_coef", f"{coefficient:g}", *(KL_FLAGS if coefficient else ()))
    return _grpo(stages, seed, student, f"kl_{coefficient:g}", kind, steps, *flags)


def _ordered(stages: Stages, seed: int, student: Path, name: str, order: tuple, steps: int) -> Path:
    """The folder of a GRPO run from the student on problems in another order, evaluated on the way."""
    heldout = ("--eval.dataset", student / "world" / "heldout.jsonl", *EVALUATED)
    return _grpo(stages, seed, student, name, f"problems {name}", steps, *order, *heldout)


def _grpo(stages: Stages, seed: int, student: Path, name: str, kind: str, steps: int, *flags: object) -> Path:
    """The folder of a GRPO run from the student. name: tells, with the steps, all that its result depends on."""

    def work(folder: Path) -> None:
        title = f"seed {seed}: GRPO, {kind}, {steps} steps"
        train(title, student / "sft" / "model", student / "world" / "train.jsonl", steps, folder, seed, *flags)

    return stages.once(f"seed_{seed}/grpo_{name}_steps_{steps}", work)


def _heldout(stages: Stages, seed: int, student: Path, run: Path, name: str) -> list[Result]:
    """A run's model on the held-out problems of its seed."""

    def work(folder: Path) -> None:
        title = f"seed {seed}: {name} on held-out problems"
        evaluate(title, run / "model", student / "world" / "heldout.jsonl", folder, seed)

    (results,) = read_run(stages.once(f"seed_{seed}/eval_{name}", work)).values()
    return results


def _timed(stages: Stages, seed: int, student: Path, run: Path, name: str, turn: int) -> dict:
    """Seconds that a run's model takes for all completions of `_heldout`: what `experiments speed` writes."""

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


def _auc(prm_run: Path) -> float | None:
    return read_records(prm_run / "eval.jsonl").rows[-1]["auc"]


def _judged(files: Iterable[Path]) -> list[list[Judged]]:
    pool = GradingPool(RewardConfig(style="think"))
    try:
        return [list(judge_all(read_recorded(file), pool)) for file in files]
    finally:
        pool.close()
