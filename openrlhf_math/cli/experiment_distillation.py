"""The runs of the experiments on what a student learns from a teacher.

`openrlhf-math experiments teacher`: a larger teacher, then the same student in four ways. `openrlhf-math experiments
rules`: one set of replies, a student for each rule.
"""

import json
from functools import partial
from pathlib import Path

from openrlhf_math.cli.demo import MAX_NEW_TOKENS, SHORT_SFT_FLAGS, evaluate, sft_flags, teach_student, train
from openrlhf_math.cli.demo import teacher as served_teacher
from openrlhf_math.cli.stages import Stages, stage
from openrlhf_math.evaluation.compare import Result, read_run
from openrlhf_math.experiments import rules, teacher
from openrlhf_math.experiments.settings import Settings
from openrlhf_math.runs.records import read_objects, read_records

CHECKS = "\nLet me check that again."
END = "\n</think>"
# The teacher has more weights than the student, and learns longer, from the same traces without their checks.
TEACHER_FLAGS = sft_flags("16", "2", "2e-3")
TRACES_FLAGS = sft_flags("8", "1", "5e-4")
EVALUATED = ("--eval.steps", 4, "--eval.temperature", "1", "--eval.n_samples_per_prompt", "2")
WAYS = {teacher.PLAIN: None, teacher.ALONE: ("--math.reward_coef", "0"), teacher.BOTH: ()}


def run_teacher(stages: Stages, settings: Settings) -> teacher.Findings:
    """All ways from the same student, seed by seed; SFT on as many tokens as the student generated with the teacher."""
    students, teachers = [], []
    runs: dict[str, list[teacher.Run]] = {name: [] for name in (*WAYS, teacher.TRACES)}
    for seed in range(settings.seeds):
        student = taught_student(stages, seed)
        taught = larger_teacher(stages, student, seed)
        results = partial(heldout, stages, seed, student)
        students.append(results(student / "sft", "student"))
        teachers.append(results(taught / "sft", "teacher"))
        for name, flags in WAYS.items():
            more = () if flags is None else ("--math.teacher", taught / "sft" / "model", *flags)
            trained = _trained(stages, seed, student, name, more, settings.steps)
            rows, evaluations = (read_records(trained / file).rows for file in ("metrics.jsonl", "eval.jsonl"))
            runs[name].append(teacher.Run(rows, evaluations, _generated(rows), results(trained, trained.name)))
        budget = runs[teacher.ALONE][-1].tokens
        learned = stages.once(
            f"seed_{seed}/sft_traces_steps_{settings.steps}", partial(_learn, student, taught, seed, budget)
        )
        runs[teacher.TRACES].append(teacher.Run(None, None, _tokens(learned), results(learned / "sft", learned.name)))
    return teacher.analyse(students, teachers, runs)


def taught_student(stages: Stages, seed: int) -> Path:
    """The folder of world/, problems/, traces/ and sft/ of a seed, which the experiments share."""
    learn = partial(teach_student, partial("seed {}: {}".format, seed), seed=seed, flags=SHORT_SFT_FLAGS)
    return stages.once(f"seed_{seed}/student", learn)


def larger_teacher(stages: Stages, student: Path, seed: int) -> Path:
    """The folder of world/, sums.jsonl and sft/ of a seed's larger model, which has learned the student's problems."""
    return stages.once(f"seed_{seed}/teacher", partial(_teach, student, seed))


def grpo(
    stages: Stages, seed: int, tuned: Path, world: Path, name: str, title: str, steps: int, *flags: object
) -> Path:
    """The folder of a GRPO run. tuned: the run of SFT that it begins from. name: with the steps, names all that its
    result depends on."""

    def work(folder: Path) -> None:
        heading = f"seed {seed}: {title}, {steps} steps"
        train(heading, tuned / "model", world / "train.jsonl", steps, folder, seed, *flags)

    return stages.once(f"seed_{seed}/grpo_{name}_steps_{steps}", work)


def heldout(stages: Stages, seed: int, student: Path, run: Path, name: str) -> list[Result]:
    """A run's model on the held-out problems of its seed."""

    def work(folder: Path) -> None:
        title = f"seed {seed}: {name} on held-out problems"
        evaluate(title, run / "model", student / "world" / "heldout.jsonl", folder, seed)

    (results,) = read_run(stages.once(f"seed_{seed}/eval_{name}", work)).values()
    return results


def _teach(student: Path, seed: int, folder: Path) -> None:
    """Write world/, with a larger model of random weights, sums.jsonl and sft/ into `folder`."""
    folder.mkdir(parents=True)
    stage(f"seed {seed}: a larger tiny Qwen", "tiny-world", folder / "world", "--size", "larger", "--seed", seed)
    rows = [row | {"response": worked_sum(row["response"])} for row in _kept(student / "traces")]
    _write(folder / "sums.jsonl", rows)
    stage(
        f"seed {seed}: SFT: the teacher learns sums worked out once", "sft", "--model.model_name_or_path",
        folder / "world" / "model", "--data.dataset", folder / "sums.jsonl", "--math.run_dir", folder / "sft",
        "--train.seed", seed, *TEACHER_FLAGS,
    )  # fmt: skip


def worked_sum(trace: str) -> str:
    """A trace of the tiny world's programmatic teacher without its checks, which repeat the same lines."""
    thought, end, answer = trace.partition(END)
    return thought.partition(CHECKS)[0] + end + answer


def _kept(traces: Path) -> list[dict]:
    """The rows of the dataset of a distillation."""
    from pyarrow import parquet

    return parquet.read_table(traces / "dataset" / "data" / "train.parquet").to_pylist()


def _write(path: Path, rows: list[dict]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({key: row[key] for key in ("problem", "response")}) + "\n" for row in rows)


def _trained(stages: Stages, seed: int, student: Path, name: str, flags: tuple, steps: int) -> Path:
    """The folder of a GRPO run, evaluated on the way."""
    world, folder = student / "world", name.lower().replace(" ", "_")
    more = ("--eval.dataset", world / "heldout.jsonl", *EVALUATED, *flags)
    return grpo(stages, seed, student / "sft", world, folder, name, steps, *more)


def _learn(student: Path, taught: Path, seed: int, budget: float, folder: Path) -> None:
    """Write traces/, the teacher's, train.jsonl, the right ones of those within the budget, and sft/ into `folder`."""
    folder.mkdir(parents=True)
    problems = student / "world" / "train.jsonl"
    stage(
        f"seed {seed}: the teacher's traces", "distill", "--teacher", "engine", "--model", taught / "sft" / "model",
        "--problems", problems, "--output", folder / "traces", "--attempts", 4, "--max-tokens", MAX_NEW_TOKENS,
        "--temperature", "1", "--top-p", "1", "--instruction", "", "--seed", seed,
    )  # fmt: skip
    texts = [row["problem"] for row in read_objects(problems)]
    verdicts = read_objects(folder / "traces" / "verdicts.jsonl")
    within = {(texts[row["row"] - 1], row["attempt"]) for row in first_of(verdicts, budget)}
    kept = [row for row in _kept(folder / "traces") if (row["problem"], row["attempt"]) in within]
    _write(folder / "train.jsonl", kept)
    (folder / "tokens.json").write_text(json.dumps(sum(row["tokens"] for row in first_of(verdicts, budget))))
    stage(
        f"seed {seed}: SFT on the teacher's traces", "sft", "--model.model_name_or_path", student / "sft" / "model",
        "--data.dataset", folder / "train.jsonl", "--math.run_dir", folder / "sft", "--train.seed", seed, *TRACES_FLAGS,
    )  # fmt: skip


def first_of(verdicts: list[dict], budget: float) -> list[dict]:
    """The attempts that `budget` tokens are enough for: the first at every problem, then the second, and so on."""
    chosen, left = [], budget
    for row in sorted(verdicts, key=lambda row: (row["attempt"], row["row"])):
        left -= row["tokens"]
        if left < 0:
            break
        chosen.append(row)
    return chosen


def _tokens(learned: Path) -> float:
    return float(json.loads((learned / "tokens.json").read_text()))


def _generated(rows: list[dict]) -> float:
    """Tokens of a run's training completions."""
    return sum(row["completion_length"] * row["rollout/num_samples"] for row in rows)


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
            results = _learned(stages, f"{base}/{_folder(name)}", replies, name, some, seed)
            questions = len({row["problem"] for row in some})
            runs[name].append(rules.Run(sum(row[TOKENS] for row in some), len(some), questions, results))
    return rules.analyse(runs)


def _ask(folder: Path, seed: int, settings: Settings) -> None:
    """A world, and the teacher's replies to its first problems."""
    folder.mkdir(parents=True)
    stage(f"seed {seed}: problems, tokenizer and a tiny Qwen", "tiny-world", folder / "world", "--seed", seed)
    with served_teacher() as address:
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

    from transformers import AutoTokenizer

    folder = stages.once(f"{base}/traces_{_folder(name)}", work)
    tokenizer = AutoTokenizer.from_pretrained(replies / "world" / "model", trust_remote_code=False)
    return [row | {TOKENS: len(tokenizer(row["response"])["input_ids"]) + 1} for row in _kept(folder)]  # and the end


def _learned(stages: Stages, name: str, replies: Path, rule: str, rows: list[dict], seed: int) -> list:
    """A student's results on the held-out problems, after one pass over the rows."""

    def work(folder: Path) -> None:
        folder.mkdir(parents=True)
        dataset = folder / "train.jsonl"
        _write(dataset, rows)
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
