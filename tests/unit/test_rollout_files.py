"""Kept rollouts: one file a step, their removal, conditions on their rows, and their readers."""

import json
import random
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from recorded_runs import rollout_row as row

from openrlhf_math.cli import main
from openrlhf_math.errors import UserError
from openrlhf_math.grpo.idle_flags import without_effect
from openrlhf_math.runs import rollouts
from openrlhf_math.runs.rollouts import Keeping, drop_older, forget_after, read_keeping, read_step, step_files
from openrlhf_math.runs.where import read_condition

ALL = Keeping()
COLUMNS = {"reward": "number", "tokens": "number", "outcome": "text", "truncated": "switch"}


def write(folder, step, rows):
    columns = {name: [one[name] for one in rows] for name in rows[0]}
    rollouts.write_step(rollouts.path_of(folder, step), columns)


# Conditions


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("reward<0.2 and truncated", [2]),
        ("reward < .2 or tokens>=30", [1, 2, 3]),
        ("not truncated and not (reward = 1)", [3]),
        ("outcome = 'wrong' or outcome=\"format\"", [1, 2]),
        ("outcome contains 'orr'", [0]),
        ("outcome = none", [3]),
        ("outcome != none and tokens != 20", [0, 1]),
        ("truncated = false", [0, 3]),
        ("tokens <= 1_0", [0]),
        ("reward > -1e-1 and reward<=+0.2", [1, 2]),
        ("NOT Truncated", None),
        ("outcome < 'd'", [0]),
    ],
)
def test_conditions(text, expected):
    rows = [
        {"reward": 1.0, "tokens": 10, "outcome": "correct", "truncated": False},
        {"reward": 0.2, "tokens": 30, "outcome": "format", "truncated": True},
        {"reward": 0.0, "tokens": 20, "outcome": "wrong", "truncated": True},
        {"reward": float("nan"), "tokens": 30, "outcome": None, "truncated": False},
    ]
    if expected is None:
        with pytest.raises(UserError, match="no column Truncated"):
            read_condition(text, COLUMNS)
    else:
        holds = read_condition(text, COLUMNS)
        assert [number for number, one in enumerate(rows) if holds(one)] == expected


def test_random_conditions_match_python():
    """Python's own `eval` of the same words, which are generated here, is the reference."""
    draw = random.Random(3)
    rows = [
        {"reward": draw.choice([0.0, 0.2, 1.0]), "tokens": draw.randint(0, 9), "outcome": draw.choice("ab"),
         "truncated": draw.random() < 0.5}
        for _ in range(40)
    ]  # fmt: skip

    def expression(depth: int) -> str:
        kind = draw.randint(0, 6 if depth else 3)
        if kind == 0:
            return "truncated"
        if kind == 1:
            return f"outcome {draw.choice(['==', '!='])} {draw.choice(['a', 'b'])!r}"
        if kind in (2, 3):
            sign = draw.choice(["<", "<=", ">", ">=", "==", "!="])
            return f"{draw.choice(['reward', 'tokens'])} {sign} {draw.choice(['0', '0.2', '1', '5'])}"
        if kind == 4:
            return f"not {expression(depth - 1)}"
        if kind == 5:
            return f"({expression(depth - 1)})"
        return f"{expression(depth - 1)} {draw.choice(['and', 'or'])} {expression(depth - 1)}"

    for _ in range(300):
        text = expression(4)
        holds = read_condition(text, COLUMNS)
        assert [holds(one) for one in rows] == [bool(eval(text, {}, dict(one))) for one in rows], text


@pytest.mark.parametrize(
    "text",
    [
        "", "reward", "reward <", "reward < 'a'", "outcome < 3", "truncated < true", "reward contains 'a'", "(reward<1",
        "reward<1)", "reward<1 truncated", "__import__('os')", "reward<1; 2", "nothing=1", "outcome=wrong",
        "3 < reward", "and", "not", "reward < none", "reward=1 and", "outcome='a", "(" * 60 + "truncated" + ")" * 60,
        "not " * 600,
        "reward.__class__ = 1",
    ],
)  # fmt: skip
def test_invalid_condition_is_one_sentence(text):
    with pytest.raises(UserError) as raised:
        read_condition(text, COLUMNS)
    assert str(raised.value).startswith("--where") and "\n" not in str(raised.value)


# Files


@pytest.mark.parametrize(
    ("text", "keeping"),
    [("all", Keeping()), ("none", Keeping(last=0)), ("last:3", Keeping(last=3)), ("sample:2", Keeping(groups=2))],
)
def test_valid_keep_rules(text, keeping):
    assert read_keeping(text) == keeping and str(keeping) == text


@pytest.mark.parametrize("text", ["", "last", "last:0", "last:-1", "last:x", "sample:", "some", "last:٣"])
def test_invalid_keep_rules(text):
    with pytest.raises(UserError, match="^--math.keep_rollouts"):
        read_keeping(text)


def test_file_holds_what_was_written(tmp_path):
    rows = [
        row(),
        row(sample=1, response="half \ud800", outcome=None, advantage=None, log_probs=None, **{"reward/a": 1}),
    ]
    rows[0]["reward/a"] = 0.5
    write(tmp_path, 12, rows)
    (path,) = tmp_path.iterdir()
    assert path.name == "step_000012.parquet"
    found = read_step(path)
    assert found == [rows[0], rows[1] | {"response": "half ?"}]
    assert list(found[0])[15:19] == ["reason", "reward", "reward/a", "advantage"]


def test_error_keeps_the_old_file(tmp_path, monkeypatch):
    from pyarrow import parquet

    def half(table, path, **_):
        path.write_bytes(b"PAR1")
        raise OSError(28, "No space left on device")

    write(tmp_path, 1, [row()])
    monkeypatch.setattr(parquet, "write_table", half)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path, 1, [row(reward=0.0)])
    assert [path.name for path in tmp_path.iterdir()] == ["step_000001.parquet"]
    assert read_step(tmp_path / "step_000001.parquet") == [row()]


def test_older_files_are_removed_and_later_ones_discarded(tmp_path):
    folder, other = tmp_path / "rollouts", tmp_path / "eval_rollouts"
    for step in (9, 10, 11, 1000000):
        write(folder, step, [row(step=step)])
        write(other, step, [row(step=step)])
    (folder / ".step_000011.parquet.unfinished").touch()
    (folder / "notes.txt").touch()
    drop_older(folder, Keeping())
    drop_older(folder, Keeping(groups=1))
    assert list(step_files(folder)) == [9, 10, 11, 1000000]
    drop_older(folder, Keeping(last=3))
    forget_after(tmp_path, 10)
    assert list(step_files(folder)) == [10] and list(step_files(other)) == [9, 10]
    assert {path.name for path in folder.iterdir()} == {"notes.txt", "step_000010.parquet"}
    drop_older(folder, Keeping(last=0))
    assert not step_files(folder)
    forget_after(tmp_path / "nowhere", 0)


# From a batch to rows


class Tokenizer:
    def decode(self, ids, skip_special_tokens):
        return " ".join(map(str, ids))


def keeper(tmp_path, keeping=ALL, tool=None):
    from openrlhf_math.grpo.rollout.kept_rollouts import KeptRollouts

    prompts = tmp_path / "0.jsonl"
    lines = [{"q": f"<user>{name}", "math.problem": name, "datasource": "set"} for name in ("one", "two", "three")]
    prompts.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return KeptRollouts(
        SimpleNamespace(
            math=SimpleNamespace(keep_rollouts=keeping, run_dir=tmp_path, tool=tool),
            train=SimpleNamespace(seed=7),
            rollout=SimpleNamespace(n_samples_per_prompt=2),
            eval=SimpleNamespace(n_samples_per_prompt=1, dataset=str(prompts)),
            data=SimpleNamespace(prompt_dataset=str(prompts), input_key="q"),
        ),
        Tokenizer(),
    )


def sample(prompt: str, tokens: list[int], mask: list[int], **changed):
    """mask: of each token whether the model sampled it."""
    from openrlhf.trainer.ppo_utils.experience import Experience

    from openrlhf_math.grpo.rollout.kept_rollouts import Graded

    one = Experience(
        sequences=torch.tensor([tokens]),
        action_mask=torch.tensor([mask[1:]]),
        rollout_log_probs=torch.tensor([[-0.5 * at for at in range(1, len(tokens))]]),
        prompts=[prompt], labels=["2"], truncated=torch.tensor([False]), rewards=torch.tensor([0.0]),
        info={"reward": torch.tensor([0.2])},
    )  # fmt: skip
    one.graded = Graded("text", "wrong", "3", "", "gold", 4)
    for name, value in changed.items():
        setattr(one, name, value)
    return one


def test_rows_of_a_step(tmp_path):
    from openrlhf_math.grpo.rollout.kept_rollouts import Graded

    kept = keeper(tmp_path)
    samples = [
        sample("<user>two", [1, 2, 3, 4, 5, 6, 7], [0, 0, 1, 1, 0, 1, 1]),  # a tool wrote token 4
        sample("<user>two", [1, 2, 3], [0, 0, 1], graded=Graded(None, None, None, "", None, 3)),
        sample("<user>other", [1, 9], [0, 1]),
        sample("<user>one", [1, 8], [0, 1], truncated=torch.tensor([True])),
    ]
    mask = torch.tensor([[0, 1, 1, 0, 1, 1], [0, 1, 0, 0, 0, 0]])
    batches = [  # in another order than the rollout
        SimpleNamespace(index=[3, 2], rewards=torch.tensor([0.75, 0.5]), advantages=torch.tensor([[3.0], [-3.0]]),
                        action_mask=torch.tensor([[1], [0]])),
        SimpleNamespace(index=[0, 1], rewards=torch.tensor([1, 0]), action_mask=mask,
                        advantages=mask * torch.tensor([[1.0], [-1.0]])),
    ]  # fmt: skip
    kept.note(batches)
    kept.training(5, samples)
    rows = read_step(tmp_path / "rollouts" / "step_000005.parquet")
    assert [(one["group"], one["sample"], one["reward"], one["advantage"]) for one in rows] == [
        (0, 0, 1.0, 1.0), (0, 1, 0.0, -1.0), (1, 0, 0.5, 0.0), (1, 1, 0.75, 3.0)
    ]  # fmt: skip
    first = rows[0]
    assert (first["prompt_tokens"], first["response_tokens"], first["tokens"]) == ([1, 2], [3, 4, 5, 6, 7], 5)
    assert first["actions"] == [[0, 2], [3, 5]] and first["log_probs"] == [-1.0, -1.5, -2.0, -2.5, -3.0]
    assert first["mean_log_prob"] == (-1.0 - 1.5 - 2.5 - 3.0) / 4
    assert (first["problem"], first["problem_index"], first["source"]) == ("two", 1, "set")
    assert (first["response"], first["outcome"], first["extracted"], first["weights"]) == ("text", "wrong", "3", 4)
    assert (rows[1]["response"], rows[1]["outcome"], rows[1]["weights"]) == ("3", None, 3)
    assert (rows[2]["problem"], rows[2]["problem_index"], rows[3]["problem"]) == (None, None, "one")
    assert [one["truncated"] for one in rows] == [False, False, False, True]

    assert {one["transcript"] for one in rows} == {None}

    kept.evaluation(5, samples[:3])
    (evaluated,) = (tmp_path / "eval_rollouts").iterdir()
    rows = read_step(evaluated)
    assert [(one["group"], one["sample"], one["advantage"]) for one in rows] == [(n, 0, None) for n in range(3)]
    assert rows[0]["reward"] == pytest.approx(0.2), "the reward, not the accuracy"


def test_run_with_a_tool_keeps_and_shows_calls_and_replies(tmp_path, capsys):
    kept = keeper(tmp_path, tool=object())
    kept._outcomes = torch.zeros(2), torch.zeros(2)
    kept.training(1, [sample("<user>two", [1, 2, 3, 4, 5], [0, 0, 1, 0, 1]) for _ in range(2)])
    path = tmp_path / "rollouts" / "step_000001.parquet"
    assert [(one["response"], one["transcript"]) for one in read_step(path)] == [("text", "3 4 5")] * 2
    assert main(["rollouts", str(path), "--where", "transcript contains '4'"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("3 4 5") == 2 and "text" not in shown


def test_file_of_the_release_before_is_read(tmp_path, capsys):
    from pyarrow import parquet

    write(tmp_path, 1, [row(response="so it was")])
    path = tmp_path / "step_000001.parquet"
    parquet.write_table(parquet.read_table(path).drop_columns("transcript"), path)
    assert len(read_step(path)) == 1
    assert main(["rollouts", str(path)]) == 0 and "so it was" in capsys.readouterr().out


def test_group_sample_is_complete_and_reproducible(tmp_path):
    samples = [sample(f"<user>{group}", [1, group], [0, 1]) for group in range(50) for _ in range(2)]
    found = []
    for _ in range(2):
        kept = keeper(tmp_path, Keeping(groups=3))
        kept._outcomes = torch.zeros(100), torch.zeros(100)
        drawn = []
        for step in range(1, 7):
            kept.training(step, samples)
            rows = read_step(tmp_path / "rollouts" / f"step_{step:06d}.parquet")
            assert [one["sample"] for one in rows] == [0, 1] * 3
            assert all(one["response_tokens"] == [one["group"]] for one in rows)
            drawn.append(tuple(one["group"] for one in rows))
        found.append(drawn)
    assert found[0] == found[1] and len(set(found[0])) > 1


# Their readers


@pytest.fixture
def run_dir(tmp_path):
    folder = tmp_path / "run" / "rollouts"
    for step in (3, 4):
        rows = [
            row(step=step, group=group, sample=number, problem=f"{group}+1?", gold=str(group + 1), problem_index=group,
                response=f"Therefore \x1b[31m\\boxed{{{group + number}}}", reward=float(number == 1),
                outcome="correct" if number == 1 else "wrong", reason="why" if number == 2 else "",
                advantage=number - 1, truncated=number == 2)
            for group in range(2)
            for number in range(3)
        ]  # fmt: skip
        write(folder, step, rows)
    return tmp_path / "run"


def test_command_shows_the_newest_step(run_dir, capsys):
    assert main(["rollouts", str(run_dir)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("step 4: 6 completions\n") and out.count("advantage") == 6
    assert "\x1b" not in out and "\\x1b" in out, "a completion moves no cursor"


def test_command_filters(run_dir, capsys):
    arguments = ["rollouts", str(run_dir / "rollouts"), "--step", "all", "--json", "--where"]
    assert main([*arguments, "reward<0.2 and truncated"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["step"], one["group"], one["sample"]) for one in rows] == [(3, 0, 2), (3, 1, 2), (4, 0, 2), (4, 1, 2)]
    assert "response_tokens" not in rows[0]


@pytest.mark.parametrize(
    "flags", [("--step", "5"), ("--step", "x"), ("--where", "reword<1"), ("--eval",), ("--limit", "-1")]
)
def test_command_refuses(run_dir, capsys, flags):
    assert main(["rollouts", str(run_dir), *flags]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_invalid_file_is_refused(tmp_path, capsys):
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"a": [1]}), tmp_path / "step_000001.parquet")
    (tmp_path / "step_000002.parquet").write_text("no")
    for name in ("step_000001.parquet", "step_000002.parquet", "nothing"):
        assert main(["rollouts", str(tmp_path / name)]) == 2
        assert name in capsys.readouterr().err


def test_vote_reads_the_folder(run_dir, capsys):
    assert main(["vote", str(run_dir / "rollouts"), "--json", "--rule", "majority"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["problems"], result["attempts"]) == (2, 12), "the attempts of both steps"
    assert result["pass@1"]["accuracy"][0] == pytest.approx(1 / 3)


def test_step_labels_read_the_folder(run_dir):
    from openrlhf_math.prm.rows import Attempt, read_attempts

    found = list(read_attempts(str(run_dir / "rollouts"), "\\n\\n"))
    assert len(found) == 12 and all(isinstance(one, Attempt) for one in found)
    assert {(one.problem, one.gold) for one in found} == {("0+1?", "1"), ("1+1?", "2")}


def test_labels_of_a_majority_are_no_gold_answers(tmp_path, capsys):
    from openrlhf_math.prm.rows import Attempt, read_attempts

    write(tmp_path, 1, [row(group=group, sample=sample, problem=f"{group}+1?", graded_by=by)
                        for group, by in enumerate(("gold", "majority")) for sample in range(2)])  # fmt: skip
    assert main(["vote", str(tmp_path), "--json", "--rule", "majority"]) == 0
    assert "2 of 4 completions" in capsys.readouterr().err
    found = list(read_attempts(str(tmp_path), "\\n\\n"))
    assert [isinstance(one, Attempt) for one in found] == [True, True, False, False]
    assert "majority" in found[-1].reason


def test_distill_keeps_recorded_correct_completions(run_dir, tmp_path, capsys):
    from pyarrow import parquet

    command = ["distill", "--teacher", "recorded", "--model", str(run_dir / "rollouts"), "--attempts", "7"]
    command += [
        "--problems",
        str(run_dir / "rollouts"),
        "--style",
        "boxed",
        "--output",
        str(tmp_path / "out"),
        "--json",
    ]
    assert main(command) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["counts"]["problems asked"] == 2 and report["counts"]["set aside without a reply"] == 2
    rows = parquet.read_table(tmp_path / "out" / "dataset" / "data" / "train.parquet").to_pylist()
    assert [(one["problem"], one["answer"], one["outcome"]) for one in rows] == [
        ("0+1?", "1", "correct"), ("1+1?", "2", "correct")
    ]  # fmt: skip
    assert all(one["response"].endswith(f"\\boxed{{{one['answer']}}}") for one in rows)


def test_truncated_completion_is_not_a_trace(run_dir):
    import asyncio

    from openrlhf_math.data.problems import Problem
    from openrlhf_math.distill.questions import key_of
    from openrlhf_math.distill.teachers import Question, Recorded
    from openrlhf_math.endpoint.reply import Failure

    teacher = Recorded(SimpleNamespace(model=str(run_dir / "rollouts")))
    key = key_of(Problem("1+1?", "", "", 0))
    replies = [asyncio.run(teacher.answer(Question(key, number, [], None))) for number in range(6)]
    assert [one.finish_reason for one in replies] == ["stop", "stop", "length"] * 2
    with pytest.raises(Failure):
        asyncio.run(teacher.answer(Question(key, 6, [], None)))


def test_report_shows_groups_with_advantage(run_dir):
    from openrlhf_math.report.runs import Training
    from openrlhf_math.report.samples import groups_of
    from openrlhf_math.runs.records import Records

    run = Training("name", "GRPO", run_dir, {}, Records([]), Records([]), [])
    shown = groups_of(run)
    assert "step 4" in shown.title and len(shown.shown) == 2
    figures = [one.summary.split(", ")[1] for one in shown.shown[0].samples]
    assert figures == ["advantage +1", "advantage +0", "advantage -1"]
    assert groups_of(Training("name", "GRPO", run_dir / "x", {}, Records([]), Records([]), [])) is None


# Replays


def replayed(rows: list[dict], tmp_path, *flags: str):
    from trained_batch import settings

    write(tmp_path / "kept", 3, rows)
    return settings("--math.replay", str(tmp_path / "kept"), "--rollout.n_samples_per_prompt", "2",
                    "--rollout.batch_size", "1", *flags)  # fmt: skip


def test_replayed_completion_is_the_recorded_one(tmp_path, monkeypatch):
    from rollout_without_engines import generator
    from trained_batch import settings

    from openrlhf_math.grpo.rollout.replay import response_of

    args = settings()
    made = generator(args, {}, monkeypatch)
    answers = [
        {"prompt": "p", "label": "2", "observation_tokens": [5, 6, 7, 8, 9], "action_ranges": [(2, 3), (4, 5)],
         "rollout_log_probs": [0.0, 0.0, -0.5, 0.0, -0.25], "truncated": truncated, "reward": 0.2, "scores": 0.2,
         "text": "t", "grade": {"outcome": "format", "answer": "1", "reason": "", "by": "gold"},
         "extra_logs": {"accuracy": 0.0, "ungraded_rate": 0.0, "reward/correct": 0.0}}
        for truncated in (False, True)
    ]  # fmt: skip
    samples = [made._process_response_into_experience(one, max_len=2048) for one in answers]
    kept = keeper(tmp_path)
    kept._outcomes = torch.tensor([0.2, 0.2]), torch.zeros(2)
    kept.training(1, samples)
    for kept_row, sample_, answer in zip(
        read_step(tmp_path / "rollouts" / "step_000001.parquet"), samples, answers, strict=True
    ):
        again = made._process_response_into_experience(response_of(kept_row, args), max_len=2048)
        for name in ("sequences", "attention_mask", "action_mask", "rollout_log_probs", "rewards", "truncated"):
            assert torch.equal(getattr(again, name), getattr(sample_, name)), name
        assert again.prompts == sample_.prompts and again.labels == [answer["label"]]
        assert again.info.keys() == sample_.info.keys()
        weighed = settings("--math.rewards", "correct=3")
        assert response_of(kept_row | {"reward/correct": 0.5}, weighed)["reward"] == 1.5


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--eval.dataset", "x"), "--eval.dataset with --math.replay"),
        (("--ckpt.load_enable",), "--ckpt.load_enable with --math.replay"),
        (("--math.overlap", "1", "--no-train.colocate_all"), "--math.overlap with --math.replay"),
        (
            ("--math.rewards", "correct=1", "--reward.overlong_buffer_len", "5", "--rollout.max_new_tokens", "9"),
            "--reward.overlong_buffer_len with --math.replay and --math.rewards",
        ),
        (
            ("--math.rewards", "correct=1", "--reward.stop_properly_penalty_coef", "0.5"),
            "--reward.stop_properly_penalty_coef with --math.replay and --math.rewards",
        ),
    ],
)
def test_impossible_replays_are_refused(tmp_path, flags, sentence):
    with pytest.raises(UserError, match=sentence):
        replayed([row(), row(sample=1)], tmp_path, *flags)


def test_penalty_that_is_a_part_is_stored(tmp_path):
    flags = (
        "--math.rewards",
        "correct=1,overlong=1",
        "--reward.overlong_buffer_len",
        "5",
        "--rollout.max_new_tokens",
        "9",
    )
    assert replayed([row(), row(sample=1)], tmp_path, *flags).reward.overlong_buffer_len is None


def test_plan_of_a_replay_has_no_engine(tmp_path, capsys):
    from openrlhf_math.grpo.plan import plan, print_plan

    args = replayed([row(), row(sample=1)], tmp_path)
    assert [one.name for one in plan(args)] == ["trainer (single controller)", "policy (DeepSpeed)"]
    print_plan(args, problems=2000)
    assert "2000, " not in capsys.readouterr().out.partition("What this run needs")[2], "files are the batches"


def test_replayed_batch_is_not_limited_by_the_samples_of_the_run(tmp_path):
    args = replayed([row(), row(sample=1)], tmp_path, "--data.max_samples", "1")
    assert args.data.max_samples > 10**6, "problems beyond it would be left out of the metrics of groups"
    given = ["--data.max_samples", "--algo.dynamic_filtering_enable"]
    assert [*without_effect(given, args).values()] == [given]


def test_replayed_majority_and_judge_stay_marked(tmp_path):
    from openrlhf_math.grpo.rollout.replay import response_of

    args = replayed([row(), row(sample=1)], tmp_path, "--math.majority_labels", "--rollout.n_samples_per_prompt", "3")
    marks = ("majority/rate", "majority/votes", "judged_rate")
    for by, outcome, expected in (
        ("gold", "correct", (0, 0, 0)),
        ("majority", "correct", (1, 1, 0)),
        ("majority", "format", (1, 0, 0)),
        ("judge", "correct", (0, 0, 1)),
    ):
        args.math = replace(args.math, judge=object())
        logs = response_of(row(graded_by=by, outcome=outcome), args)["extra_logs"]
        assert tuple(logs[name] for name in marks) == expected
    plain = replayed([row(), row(sample=1)], tmp_path)
    assert not response_of(row(), plain)["extra_logs"].keys() & set(marks)


def test_replay_of_other_problems_is_refused(tmp_path):
    from openrlhf_math.grpo.rollout.replay import check_problems

    write(tmp_path, 3, [row(), row(prompt="2+2?")])
    path = tmp_path / "step_000003.parquet"
    check_problems([path], {row()["prompt"], "2+2?", "3+3?"})
    with pytest.raises(UserError, match=f"--math.replay {path}: .*2\\+2?"):
        check_problems([path], {row()["prompt"]})


def test_replay_names_its_flag_and_a_missing_column(tmp_path):
    import pyarrow
    from pyarrow import parquet
    from trained_batch import settings

    from openrlhf_math.grpo.rollout.replay import replay_files

    with pytest.raises(UserError, match="--math.replay none"):
        replay_files(settings("--math.replay", "none"))
    parquet.write_table(pyarrow.table({"step": [1], "response": ["x"], "reward": [1.0]}), tmp_path / "x.parquet")
    with pytest.raises(UserError, match="no column problem_index"):
        read_step(tmp_path / "x.parquet")
    assert len(read_step(tmp_path / "x.parquet", ["reward"])) == 1


def test_replay_compares_the_tokens_of_every_prompt(tmp_path, monkeypatch):
    from openrlhf_math.grpo.rollout import replay

    def tokenizer(texts, **_):
        return {"input_ids": [[1, 2] if text == row()["prompt"] else [7] for text in texts]}

    monkeypatch.setattr(replay, "load_tokenizer", lambda *_: tokenizer)
    rows = [row(group=group, sample=sample, prompt=prompt) for group, prompt in enumerate((row()["prompt"], "2+2?"))
            for sample in range(2)]  # fmt: skip
    args = replayed(rows, tmp_path, "--rollout.batch_size", "2")
    with pytest.raises(UserError, match="other tokens of the prompt '2"):
        replay.replay_files(args)


def test_replay_has_no_engine_and_checks_its_files(tmp_path, monkeypatch):
    from openrlhf_math.grpo.rollout import replay

    def tokenizer(texts, **_):
        return {"input_ids": [[1, 2] if "1+1" in text else [7] for text in texts]}

    monkeypatch.setattr(replay, "load_tokenizer", lambda *_: tokenizer)
    right = [row(), row(sample=1)]
    args = replayed(right, tmp_path, "--reward.overlong_buffer_len", "5", "--rollout.max_new_tokens", "9")
    assert args.vllm.num_engines == 0 and args.reward.overlong_buffer_len is None, "it is in the rewards already"
    assert [path.name for path in replay.replay_files(args)] == ["step_000003.parquet"]
    for rows, flags, said in (
        (right[:1], (), "has 1 completions of 1 prompts"),
        ([row(), row(group=1)], (), "has 2 completions of 2 prompts"),
        ([one | {"prompt": "2+2?"} for one in right], (), "makes other tokens"),
        (right, ("--data.max_len", "4"), "a row has 5 tokens"),
        (right, ("--math.rewards", "length=-1"), "has no reward/length"),
    ):
        with pytest.raises(UserError, match=said):
            replay.replay_files(replayed(rows, tmp_path, *flags))
