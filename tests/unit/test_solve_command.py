"""`openrlhf-math solve`: what it refuses before any engine starts, and what it shows and leaves of a solution."""

import io
import json

import pytest

from openrlhf_math.cli import main
from openrlhf_math.cli.rerank_flags import settings
from openrlhf_math.cli.solve import build_parser
from openrlhf_math.cli.solve_display import show_set, show_solution
from openrlhf_math.errors import UserError
from openrlhf_math.rerank.anytime import Attempt, Decision
from openrlhf_math.rerank.reranker import Solved, row
from openrlhf_math.rerank.solver import MAX_CONCURRENCY, Solution
from openrlhf_math.rewards import RewardConfig


@pytest.fixture
def model(tmp_path):
    """Enough of a model to be one until it is loaded."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "tokenizer_config.json"):
        (folder / name).write_text("{}")
    return str(folder)


BAD = [
    (["1+1?"], ["--model", "nowhere/to/be/found"], "--model nowhere/to/be/found: there is no such directory"),
    ([], [], "give a PROBLEM"),
    (["1+1?", "--file", "x.jsonl"], [], "one of them"),
    (["  "], [], "the problem is empty"),
    (["1+\0"], [], "problem 1 holds binary data"),
    (["1+\udcff"], [], "problem 1 is not valid Unicode"),
    (["1+1?"], ["--attempts", "0"], "--attempts 0"),
    (["1+1?"], ["--seconds", "0"], "--seconds 0"),
    (["1+1?"], ["--total-seconds", "-1"], "--total-seconds -1"),
    (["1+1?"], ["--temperature", "-1"], "--temperature -1"),
    (["1+1?"], ["--temperature", "nan"], "--temperature nan"),
    (["1+1?"], ["--temperature", "2.5"], "--temperature 2.5: vLLM takes at most 2"),
    (["1+1?"], ["--temperature", "inf"], "--temperature inf"),
    (["1+1?"], ["--workers", "9" * 26], "--workers " + "9" * 26),
    (["1+1?"], ["--timeout", "1e308"], "--timeout"),
    (["1+1?"], ["--select-votes", "9" * 26], "--select-votes"),
    (
        ["1+1?"],
        [
            "--base-url",
            "http://127.0.0.1:9/v1",
            "--scorer",
            "verdict",
            "--scorer-model",
            "m",
            "--scorer-votes",
            "9" * 26,
        ],
        "--scorer-votes",
    ),
    (["1+1?"], ["--confidence", "0.4"], "--confidence 0.4"),
    (["1+1?"], ["--rule", "weighted"], "--rule weighted needs scores"),
    (["1+1?"], ["--rule", "loudest"], "--rule loudest"),
    (["1+1?"], ["--strategy", "dvts"], "--strategy dvts needs scores"),
    (["1+1?"], ["--strategy", "guess"], "--strategy guess"),
    (["1+1?"], ["--refine", "2"], "--refine 2 needs scores"),
    (["1+1?"], ["--agents", "crowd"], "--agents crowd"),
    (["1+1?"], ["--width", "0"], "--width 0"),
    (["1+1?"], ["--scorer", "math-shepherd"], "--scorer is given without --scorer-model"),
    (["1+1?"], ["--share-device"], "there is no scorer"),
    (["1+1?"], ["--output", "nowhere/x.jsonl"], "there is no directory nowhere"),
    (["1+1?"], ["--resume"], "--resume continues from --output"),
    (["--file", "missing.jsonl"], [], "missing.jsonl"),
]


@pytest.mark.parametrize(
    ("stdin", "said"),
    [
        (None, "standard input is closed"),
        (io.TextIOWrapper(io.BytesIO(b"1+1?\n1+\xff?\n"), "utf-8"), "standard input is not text in UTF-8"),
        (io.StringIO("1+1?\n\n1+\0?\n"), "problem 2 holds binary data"),
        (io.StringIO(" \n"), "standard input has no line with a problem"),
    ],
)
def test_unreadable_standard_input_is_one_sentence(model, capsys, monkeypatch, stdin, said):
    monkeypatch.setattr("sys.stdin", stdin)
    assert main(["solve", "-", "--model", model]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


@pytest.mark.parametrize(("what", "flags", "said"), BAD, ids=[" ".join(what + flags) for what, flags, _ in BAD])
def test_invalid_input_is_one_sentence(model, capsys, what, flags, said):
    flags = flags if "--model" in flags else ["--model", model, *flags]
    assert main(["solve", *what, *flags]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"text": "1+1?"}], "only text; name it with --problem-key"),
        ([{"problem": "1+1?"}, {"problem": ""}], "set.jsonl row 2: "),
        ([{"problem": 5}], "set.jsonl row 1: "),
    ],
)
def test_row_without_a_problem_is_named(model, tmp_path, capsys, rows, said):
    path = tmp_path / "set.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    assert main(["solve", "--file", str(path), "--model", model]) == 2
    assert said in capsys.readouterr().err


def test_output_is_not_overwritten(model, tmp_path, capsys):
    path = tmp_path / "solved.jsonl"
    path.write_text('{"number": 0, "problem": "another"}\n')
    assert main(["solve", "1+1?", "--model", model, "--output", str(path)]) == 2
    assert "resume with --resume" in capsys.readouterr().err
    assert main(["solve", "1+1?", "--model", model, "--output", str(path), "--resume"]) == 2
    assert "is of another problem set" in capsys.readouterr().err
    assert path.read_text() == '{"number": 0, "problem": "another"}\n'


def solution(**more) -> Solution:
    attempts = (
        Attempt("2", [0.9, 0.8], 10, "one\n\\boxed{2}"),
        Attempt("3 [red]", [0.1, float("nan")], 11, "\\boxed{3 [red]}"),
        Attempt(None, None, 12, "hm"),
    )
    decision = Decision(0, "2", (1, 1), 2, "early", 3, 33, 55)
    parts = {"problem": "1+1?", "answer": "2", "text": attempts[0].text, "decision": decision, "attempts": attempts,
             "answer_clusters": (0, 1, None), "scores": (0.8, 0.0, 0.0), "voting": (0, 1, None),
             "weights": (0.8, 0.0, 0.0), "scored": True, "seconds": 1.5}  # fmt: skip
    return Solution(**parts | more)


def test_row_is_json_for_any_scores():
    line = json.loads(json.dumps(row(4, "1+1?", "2", Solved(0, solution())), allow_nan=False))
    assert line["number"] == 4 and line["answer"] == "2" and line["tokens"] == [10, 11, 12]
    assert line["scores"] == [[0.9, 0.8], [0.1, None], None]
    assert row(0, "1+1?", None, Solved(0, solution(scored=False)))["scores"] is None
    assert row(0, "?", None, Solved(0, None, "no room"))["error"] == "no room"


def test_solution_is_shown_with_attempts_votes_and_step_scores(capsys):
    show_solution(row(0, "1+1?", None, Solved(0, solution())))
    shown = capsys.readouterr().out
    for part in (
        "attempt 1",
        "\\boxed{2}",
        "0.90 0.80",
        "0.10 nan",
        "3 [red]",
        "33 tokens, at least 55 saved",
        "answer: 2",
    ):
        assert part in shown


CODES = "2\x1b]0;title\x07\x1b[2J\x9b2J\u202e"


def test_codes_of_a_terminal_in_the_words_of_a_model_are_written_out(capsys):
    attempts = (Attempt(CODES, None, 10, f"\\boxed{{{CODES}}}"),)
    parts = {"attempts": attempts, "answer": CODES, "text": attempts[0].text, "answer_clusters": (0,)}
    line = row(0, f"1+1?{CODES}", CODES, Solved(0, solution(**parts, scores=(0.0,), scored=False)))
    show_solution(line)
    show_set([line, line | {"number": 1, "error": CODES, "answer": None}], RewardConfig(workers=1))
    show_solution(line | {"error": CODES})
    shown = "".join(capsys.readouterr())
    assert not any(code in shown for code in "\x1b\x07\x9b\u202e") and "\\x1b" in shown


def test_problem_set_is_shown_with_correctness(capsys):
    lines = [
        row(1, "[bold] 1+2?", "3", Solved(1, solution(text="\\boxed{4}", answer="4"))),
        row(0, "1+1?", "2", Solved(0, solution())),
        row(2, "?", "2", Solved(0, None, "no room")),
    ]
    show_set(lines, RewardConfig(workers=1))
    shown = capsys.readouterr().out
    assert shown.index("1+1?") < shown.index("[bold] 1+2?")
    assert "right: 1 of 3 (33.3%)" in shown and "no room" in shown


def test_sentence_of_an_actor_has_no_traceback(monkeypatch):
    import ray

    from openrlhf_math.cli.solve import _until_interrupted

    def fail(one):
        error = ray.exceptions.RayTaskError("solve", "Traceback (most recent call last)", UserError("--rule x.y: no"))
        raise error.as_instanceof_cause()

    monkeypatch.setattr(ray, "wait", lambda ready, **more: (ready, []))
    monkeypatch.setattr(ray, "get", fail)
    with pytest.raises(UserError) as raised:
        list(_until_interrupted(iter([None]), None))
    assert str(raised.value) == "--rule x.y: no"


def test_answers_that_cannot_be_graded_are_counted(capsys):
    lines = [row(number, "?", gold, Solved(number, solution())) for number, gold in enumerate(("2", r"\frac{"))]
    show_set(lines, RewardConfig(workers=1))
    assert "right: 1 of 2 (50.0%); 1 " in capsys.readouterr().out


def test_attempts_without_a_score_are_shown(capsys):
    line = row(0, "1+1?", None, Solved(0, solution()))
    assert line["unscored"] == 2
    show_solution(line)
    assert capsys.readouterr().out.count("unscored") == 3  # two attempts, and the sum of them
    show_set([line, {**line, "number": 1}], RewardConfig(workers=1))
    assert "4 attempts unscored" in capsys.readouterr().out


@pytest.mark.parametrize("flags", [["--attempts", "2000"], ["--attempts", "2000", "--attempt-concurrency", "4000"]])
def test_concurrent_requests_do_not_exceed_engine_capacity(flags, model):
    args = build_parser("solve").parse_args(["--model", model, "--device", "cpu", "1+1?", *flags])
    assert settings(args).sampler.max_concurrency == MAX_CONCURRENCY
