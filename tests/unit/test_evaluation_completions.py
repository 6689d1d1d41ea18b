"""`openrlhf-math eval --completions`: completions made elsewhere, in several forms, graded and kept."""

import json

import pytest

from openrlhf_math.cli import main

QUESTION = "What is 1+1?"
RIGHT, WRONG = r"so \boxed{2}", r"so \boxed{3}"


@pytest.fixture
def score(tmp_path, capsys):
    """Scores rows; gives the figures and the rows that are kept."""

    def run(rows, *flags, name="made.jsonl"):
        file, output = tmp_path / name, tmp_path / "out"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        command = ["eval", "--completions", str(file), "--output", str(output), "--workers", "1", "--json"]
        assert main([*command, *flags]) == 0
        result = json.loads(capsys.readouterr().out)
        assert result == {file.stem: json.loads((output / "summary.json").read_text())}
        kept = [json.loads(line) for line in (output / "completions.jsonl").read_text().splitlines()]
        return result[file.stem], kept

    return run


FORMS = {
    "vote": [{"problem": QUESTION, "gold": "2", "responses": [RIGHT, WRONG], "tokens": [5, 7]}],
    "grade": [{"problem": QUESTION, "gold": "2", "response": text} for text in (RIGHT, WRONG)],
    "eval": [
        {"problem_index": 0, "sample": sample, "problem": QUESTION, "gold": "2", "response": text, "tokens": 5}
        for sample, text in enumerate((RIGHT, WRONG))
    ],
    "Qwen2.5-Math": [{"idx": 0, "question": QUESTION, "gt": "2", "code": [RIGHT, WRONG], "pred": ["2", "3"]}],
    "lm-evaluation-harness": [
        {
            "doc_id": 0,
            "doc": {"question": QUESTION},
            "target": "1+1=2\n#### 2",
            "resps": [[RIGHT, WRONG]],
            "filter": name,
        }
        for name in ("strict-match", "flexible-extract")
    ],
    "lighteval": [
        {
            "__doc__": {"query": QUESTION, "choices": ["2"], "gold_index": [0]},
            "__model_response__": {"text": [RIGHT, WRONG], "output_tokens": [[1] * 5, [1] * 7]},
            "__metric__": {},
        }
    ],
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_gives_the_same(score, form):
    result, kept = score(FORMS[form])
    assert (result["problems"], result["samples"], result["pass_at_1"]) == (1, 2, 0.5)
    assert result["pass_at_k"]["2"]["accuracy"] == 1.0
    assert [(row["problem"], row["response"], row["outcome"]) for row in kept] == [
        (QUESTION, RIGHT, "correct"),
        (QUESTION, WRONG, "format"),
    ]


def test_rows_keep_fields_for_other_tools(score):
    _, kept = score([{"problem": QUESTION, "gold": "2", "responses": [RIGHT, None], "scores": [[0.1, 0.9], None]}])
    assert kept[0] == {
        "problem_index": 0,
        "sample": 0,
        "problem": QUESTION,
        "gold": "2",
        "response": RIGHT,
        "tokens": None,
        "truncated": None,
        "outcome": "correct",
        "reward": 1.0,
        "answer": "2",
        "well_formed": True,
        "answer_cluster": 0,
        "reason": "",
        "scores": [0.1, 0.9],
    }
    assert kept[1]["response"] is None and kept[1]["answer_cluster"] is None and kept[1]["scores"] is None


def test_output_can_be_read_again(score, tmp_path, capsys):
    rows = [
        {"problem": f"{QUESTION} {n}", "gold": "2", "responses": [RIGHT, WRONG], "tokens": [5, 7]} for n in range(3)
    ]
    first, _ = score(rows)
    command = [
        "eval",
        "--completions",
        str(tmp_path / "out" / "completions.jsonl"),
        "--output",
        str(tmp_path / "again"),
    ]
    assert main([*command, "--workers", "1", "--json"]) == 0
    second = json.loads(capsys.readouterr().out)["completions"]
    for result in (first, second):
        for name in ("benchmark", "seconds_grading"):
            result.pop(name)
    assert first == second
    assert main(["eval", "--compare", str(tmp_path / "out"), str(tmp_path / "again"), "--json"]) == 0
    differences = json.loads(capsys.readouterr().out)["made"]
    assert {one["p_value"] for one in differences.values()} == {1.0}


def test_rows_without_a_problem_are_separate_problems(score):
    result, _ = score([{"gold": "2", "response": RIGHT}, {"gold": "2", "response": WRONG}])
    assert (result["problems"], result["samples"]) == (2, 1)


def test_repeated_problem_in_a_benchmark_stays_two(score):
    result, _ = score(FORMS["vote"] * 2)
    assert result["problems"] == 2


def test_figures_by_level_and_subject(score):
    rows = [
        {"question": "x", "gt": "2", "code": [text], "level": level, "type": "Algebra"}
        for level, text in ((1, RIGHT), (5, WRONG), (5, RIGHT))
    ]
    by = score(rows)[0]["by"]
    assert {name: (one["problems"], one["pass_at_1"]) for name, one in by["level"].items()} == {
        "1": (1, 1.0),
        "5": (2, 0.5),
    }


def test_style_defines_where_answers_are(score):
    result, kept = score([{"gold": "2", "response": r"\boxed{3} no</think> \boxed{2}"}], "--style", "think")
    assert result["pass_at_1"] == 1.0 and kept[0]["well_formed"]


def test_invalid_unicode_and_hostile_text_are_kept(score):
    hostile = ["\ud800 \\boxed{2}", "\\boxed{" * 5000, "\x00\u2028\\boxed{9**9**9**9}", None, ""]
    result, kept = score([{"gold": "2", "responses": hostile, "scores": [float("nan")] * 5}], "--timeout", "1")
    assert [row["response"] for row in kept] == hostile
    assert [row["scores"] for row in kept] == [None] * 5 and result["pass_at_1"] == 0.2


def test_parquet_holds_the_same_rows(score, tmp_path):
    import pyarrow.parquet as pq

    rows = [{"problem": QUESTION, "gold": "2", "responses": [RIGHT, "\ud800", None], "scores": [[0.5], None, 1]}]
    _, kept = score(rows * 700, "--parquet")
    table = pq.read_table(tmp_path / "out" / "completions.parquet").to_pylist()
    assert len(table) == len(kept) == 2100
    assert table[0] | {"scores": None} == kept[0] | {"scores": None} and json.loads(table[0]["scores"]) == [0.5]
    assert table[1]["response"] == "?"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "completions.jsonl",
        "completions.parquet",
        "summary.json",
    ]


def test_tables(tmp_path, capsys):
    file = tmp_path / "made.jsonl"
    file.write_text(json.dumps(FORMS["vote"][0] | {"subject": "sums"}) + "\n" + json.dumps(FORMS["vote"][0]) + "\n")
    assert main(["eval", "--completions", str(file), "--output", str(tmp_path / "out"), "--workers", "1"]) == 0
    printed = capsys.readouterr().out
    for text in (
        "made: 2 problems, 2 samples each",
        "pass@2",
        "maj@2",
        "tokens a correct answer",
        "By subject",
        "sums",
    ):
        assert text in printed


@pytest.mark.parametrize(
    "text, sentence",
    [
        (None, "--completions {file}: there is no such file"),
        ("", "{file} has no rows"),
        ("{", "{file}, line 1: "),
        ('{"text": "x"}', "{file}: its columns are text, of no known form (a problem a row: gold, responses;"),
        ('{"gold": "2", "responses": []}', "{file} has no completions"),
        ('{"gold": "2", "responses": ["x"]}\n{"gold": "2"}', "{file}, line 2 has no `responses`"),
        ('{"gold": "2", "response": "x"}\n{"gold": "2"}', "{file}, line 2: not as a completion a row writes it"),
        ('{"gold": "2", "response": 7}', "{file}, line 1: `responses` is [7], it must be a list of texts"),
        ('{"gold": "2", "responses": ["x"], "truncated": [1]}', "`truncated` is [1], it must be a list of true and"),
        (f'{{"gold": "2", "responses": ["x"], "tokens": [{2**63}]}}', "it must be a list of counts"),
        ('{"doc": {}, "model_response": {}}', "{file}, line 1: not as lighteval writes it (KeyError('gold_index'))"),
    ],
)
def test_bad_rows(tmp_path, capsys, text, sentence):
    file = tmp_path / "made.jsonl"
    if text is not None:
        file.write_text(text)
    assert main(["eval", "--completions", str(file), "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert sentence.format(file=file) in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("aggregation, best", [("last", 1.0), ("min", 0.0)])
@pytest.mark.parametrize("a_row", ["a problem", "a completion"])
def test_recorded_scores_are_used_in_votes(score, aggregation, best, a_row):
    rows = [{"problem": QUESTION, "gold": "2", "responses": [RIGHT, WRONG, None], "scores": [[0.2, 0.9], 0.5, None]}]
    if a_row == "a completion":
        whole = rows[0]
        rows = [
            {"problem": QUESTION, "gold": "2", "response": response or "", "scores": scores}
            for response, scores in zip(whole["responses"], whole["scores"], strict=True)
        ]
    result, kept = score(rows, "--aggregate", aggregation)
    assert result["best_of_k"]["3"]["accuracy"] == result["weighted_at_k"]["3"]["accuracy"] == best
    assert result["unscored"] == 1
    assert [row["scores"] for row in kept] == [[0.2, 0.9], 0.5, None]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_scored_completions_can_be_scored_again_from_file(score, tmp_path, suffix):
    rows = [{"problem": QUESTION, "gold": "2", "responses": [WRONG, RIGHT], "scores": [[0.2, 0.5], None]}]
    result, _ = score(rows, "--parquet")
    again = ["eval", "--completions", str(tmp_path / "out" / f"completions.{suffix}"), "--output", str(tmp_path / "b")]
    assert main([*again, "--workers", "1"]) == 0
    summary = json.loads((tmp_path / "b" / "summary.json").read_text())
    for name in ("best_of_k", "weighted_at_k", "unscored", "pass_at_1"):
        assert summary[name] == result[name]


@pytest.mark.parametrize(
    ("flags", "result"),
    [
        (["--scorer", "verifier"], "--scorer is given without --scorer-model"),
        (["--scorer", "oracle", "--scorer-model", "."], "--scorer oracle: there is none of that name"),
        (["--scorer", "verifier", "--scorer-model", "/none"], "--scorer-model /none"),
        (["--aggregate", "best"], "--aggregate best: there is none of that name"),
        (["--scorers", "0"], "--scorers 0: give 1 or more"),
    ],
)
def test_unusable_scorer_is_refused_before_writing(tmp_path, capsys, flags, result):
    file = tmp_path / "made.jsonl"
    file.write_text(json.dumps({"gold": "2", "responses": [RIGHT]}))
    command = ["eval", "--completions", str(file), "--output", str(tmp_path / "out"), *flags]
    assert main(command) == 2
    assert result in capsys.readouterr().err and not (tmp_path / "out").exists()
