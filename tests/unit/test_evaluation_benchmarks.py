"""Benchmarks by name, file or dotted path; holdouts; what cannot be read says so."""

import json
from pathlib import Path

import pytest

from openrlhf_math.data.schema import Row
from openrlhf_math.data.sources import Columns
from openrlhf_math.errors import UserError
from openrlhf_math.evaluation.benchmarks import (
    BENCHMARKS,
    Sampling,
    find_benchmark,
    register_benchmark,
    sampling_of,
    source_of,
)
from openrlhf_math.evaluation.problem_sets import Reading, holdout, read_set, read_sets
from openrlhf_math.registry import Registry

# Beside the project or in it.
DATA = next((up / "shared/data" for up in Path(__file__).parents[2:4] if (up / "shared/data").is_dir()), None)


@pytest.fixture
def file(tmp_path):
    def write(rows, name="data.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return write


PLAIN = [{"problem": f"{n}+1?", "answer": n + 1} for n in range(20)]


NAMED = (
    "aime24 aime25 aime26 hmmt-feb25 hmmt-nov25 hmmt-feb26 brumo25 cmimc25 smt25 amc23 amo-bench beyond-aime math500 "
    "minerva olympiadbench omni-math college-math gsm8k gsm-plus imo-answerbench"
)


@pytest.mark.parametrize("name", NAMED.split())
def test_known_benchmarks_define_location_and_sampling(name):
    source, sampling = source_of(BENCHMARKS[name]), sampling_of(BENCHMARKS[name])
    assert source.hub and source.split and source.licence
    assert (sampling.samples > 1) == (sampling.temperature > 0)
    assert sampling.max_tokens is None  # the model's context is the limit, not a number of years ago


# Columns as the hub's cards have them.
@pytest.mark.parametrize(
    "name, row, gold, labels",
    [
        ("aime26", {"problem_idx": 1, "answer": 277, "problem": "x?"}, "277", {}),
        ("hmmt-feb26", {"problem_idx": 1, "answer": r"\frac{1}{2}", "problem_type": ["Algebra"], "problem": "x?"},
         r"\frac{1}{2}", {}),
        ("amo-bench", {"prompt": "x?", "answer": r"\boxed{2}", "answer_type": "number"}, r"\boxed{2}", {}),
        ("imo-answerbench", {"Problem ID": "imo-1", "Problem": "x?", "Short Answer": "3"}, "3", {}),
        ("minerva", {"question": "x?", "answer": "1e4"}, "1e4", {}),
        ("college-math", {"data_source": "b", "question_number": "1", "question": "x?", "answer": "$x$"}, "$x$", {}),
        ("gsm-plus", {"question": "x?", "solution": "s", "answer": "5", "perturbation_type": "digit expansion",
                      "seed_question": "y?", "seed_solution": "t", "seed_answer": "6"}, "5",
         {"subject": "digit expansion"}),
    ],
)  # fmt: skip
def test_benchmark_files_are_read_by_their_columns(file, name, row, gold, labels):
    (question,) = read_set(f"{name}={file([row])}", Reading()).questions
    assert question.problem.text == "x?" and question.problem.answer == gold and question.labels == labels


def test_questions_without_an_answer_are_skipped_and_counted(file):
    rows = [{"question": f"{n}?", "answer": "None" if n % 4 == 0 else str(n)} for n in range(8)]
    one = read_set(f"gsm-plus={file(rows)}", Reading())
    assert [question.problem.answer for question in one.questions] == ["1", "2", "3", "5", "6", "7"]
    assert one.left_out == 2
    with pytest.raises(UserError, match="no row can be asked"):
        read_set(f"gsm-plus={file(rows[:1])}", Reading())


def test_registered_benchmark_is_found_and_keeps_its_defaults(monkeypatch):
    monkeypatch.setattr("openrlhf_math.evaluation.benchmarks.BENCHMARKS", Registry(BENCHMARKS))

    @register_benchmark("ours", samples=3, temperature=0.7)
    def ours():
        return [Row("1+1?", "2")]

    assert find_benchmark("ours") is ours and sampling_of(ours) == Sampling(samples=3, temperature=0.7)


def two_rows():
    yield Row("1+1?", "2", subject="sums")
    yield Row("2+2?", "4")


def not_rows():
    return ["1+1?"]


def test_custom_object_by_dotted_path():
    one = read_set(f"{__name__}.two_rows", Reading())
    assert [question.problem.answer for question in one.questions] == ["2", "4"]
    assert one.questions[0].labels == {"subject": "sums"} and one.sampling == Sampling()


GSM8K = {"question": "How many?", "answer": "1+1 = <<1+1=2>>2\n#### 2"}
MATH500 = {"problem": "x?", "solution": r"\boxed{5}", "answer": "5", "subject": "Algebra", "level": 4, "unique_id": "1"}
OLYMPIAD = {
    "question": "All x?",
    "final_answer": ["1", "2"],
    "solution": ["so"],
    "subfield": "Algebra",
    "context": None,
}


@pytest.mark.parametrize(
    "rows, gold, labels",
    [
        ([GSM8K], "2", {}),
        ([MATH500], "5", {"subject": "Algebra", "difficulty": "4"}),
        ([OLYMPIAD], "1, 2", {"subject": "Algebra"}),
        ([{"Problem": "x?", "Answer": 204}], "204", {}),
        ([{"prompt": "x?", "label": "7", "difficulty": "Level 3"}], "7", {"difficulty": "3"}),
    ],
)
def test_files_are_read_by_their_columns(file, rows, gold, labels):
    (question,) = read_set(file(rows), Reading()).questions
    assert question.problem.answer == gold and question.labels == labels


def test_file_with_a_benchmark_name_is_sampled_like_it(file):
    one = read_set(f"aime24={file([{'problem': 'x?', 'answer': 204}])}", Reading())
    assert one.name == "aime24" and one.sampling.temperature == 0.6 and one.sampling.samples == 16
    assert read_set(f"mine={file(PLAIN)}", Reading()).name == "mine"
    assert read_set(file(PLAIN), Reading()).name == "data"


def test_parquet_is_read_like_jsonl(tmp_path, file):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(PLAIN), tmp_path / "data.parquet")
    ours, theirs = (read_set(str(path), Reading()) for path in (tmp_path / "data.parquet", file(PLAIN)))
    assert ours.digest() == theirs.digest() and len(ours.questions) == 20


def test_turns_before_the_last_belong_to_the_problem(file):
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1?"}]
    (question,) = read_set(file([{"problem": turns, "answer": "2"}]), Reading()).questions
    assert question.problem.problem == turns and question.problem.text == "1+1?"


def test_digest_depends_on_problems_golds_and_order(file):
    digests = {
        read_set(file(rows), Reading()).digest()
        for rows in (PLAIN, PLAIN[::-1], PLAIN[:-1], [PLAIN[0] | {"answer": "9"}, *PLAIN[1:]])
    }
    assert len(digests) == 4


@pytest.mark.skipif(DATA is None, reason="the real problem sets are not here")
def test_real_sets():
    gsm8k = read_set(f"gsm8k={DATA / 'gsm8k_train.jsonl'}", Reading())
    assert len(gsm8k.questions) == 7473 and gsm8k.questions[0].problem.answer == "72"
    assert len(read_set(f"holdout:{DATA / 'mawps.jsonl'}", Reading()).questions) == 1000


def test_holdout_depends_only_on_seed_and_texts(file):
    questions = read_set(file(PLAIN), Reading()).questions
    drawn = {question.problem.text for question in holdout(questions, 8, seed=0)}
    assert len(drawn) == 8
    assert {question.problem.text for question in holdout(questions[::-1], 8, seed=0)} == drawn
    assert {question.problem.text for question in holdout(questions, 8, seed=1)} != drawn
    fewer = {question.problem.text for question in holdout(questions[:-1], 8, seed=0)}
    assert len(fewer & drawn) >= 7, "one problem less moves one at the most"


def test_holdout_is_a_separate_set(file):
    one = read_set(f"holdout:{file(PLAIN)}", Reading(holdout=5))
    assert one.name == "holdout-data" and one.holdout and len(one.questions) == 5


def test_training_set_without_holdout_matches_curate(file, tmp_path):
    """What `eval` writes, `curate --benchmark` takes."""
    import pyarrow.parquet as pq

    from openrlhf_math.cli import main
    from openrlhf_math.evaluation.results import write_holdout

    words = ["apples", "pears", "plums", "nuts", "figs", "dates", "limes", "kiwis"]
    text = "Ann has {n} {word} and buys {more} more of them. How many {word} has she?"
    rows = [
        {"problem": text.format(n=n, word=word, more=2 * n + 1), "answer": 3 * n + 1}
        for n, word in enumerate(words, start=7)
    ]
    source = file(rows)
    one = read_set(f"holdout:{source}", Reading(holdout=3))
    write_holdout(tmp_path / "holdout.jsonl", one.questions)
    command = ["curate", "--source", f"s={source}", "--benchmark", f"h={tmp_path / 'holdout.jsonl'}", "--workers", "0"]
    assert main([*command, "--output", str(tmp_path / "out")]) == 0
    kept = [row for part in (tmp_path / "out/data").glob("*.parquet") for row in pq.read_table(part).to_pylist()]
    held = {question.problem.text for question in one.questions}
    assert {row["problem"] for row in kept} == {row["problem"] for row in rows} - held


@pytest.mark.parametrize(
    "spec, sentence",
    [
        ("aime23", "--benchmark aime23: there is none of that name; choose one of aime24, aime25, aime26, hmmt-feb25"),
        ("no.such.function", "--benchmark no.such.function: cannot be imported"),
        (f"{__name__}.not_rows", "its row 1 is '1\\+1\\?', it must be a data.schema.Row"),
        ("nowhere.jsonl", "nowhere.jsonl: there is no such file"),
        ("./nowhere", "there is no such file or directory"),
        ("../up={file}", "there is no such file"),
        ("..={file}", "--benchmark ..=.*: '..' is not a name"),
        ("holdout:{file}", "--holdout 1000: the set has 20 problems"),
        ("{empty}", "is empty"),
        ("{nameless}", "only text; name it with --problem-key"),
        ("{goldless}", "none of its gold answers can be parsed, the first is ''"),
        ("{broken}", "row 2: there is no problem in it; fix or drop the row"),
    ],
)
def test_unreadable_input_is_reported(file, spec, sentence):
    places = {
        "file": file(PLAIN, "file.jsonl"),
        "empty": file([], "empty.jsonl"),
        "nameless": file([{"text": "x"}], "nameless.jsonl"),
        "goldless": file([{"problem": "x?", "answer": ""}] * 3, "goldless.jsonl"),
        "broken": file([PLAIN[0], {"problem": "", "answer": "1"}], "broken.jsonl"),
    }
    with pytest.raises(UserError, match=sentence):
        read_set(spec.format(**places), Reading())


def test_sets_with_equal_names_need_distinct_labels(file):
    first, second = file(PLAIN), file(PLAIN, "other.jsonl")
    assert [one.name for one in read_sets([first, second], Reading())] == ["data", "other"]
    with pytest.raises(UserError, match="another one is called data too; call this one NAME="):
        read_sets([first, first], Reading())


def test_named_columns_win(file):
    path = file([{"problem": "no", "q": "1+1?", "answer": "no", "a": "2"}])
    (question,) = read_set(path, Reading(columns=Columns(problem="q", answer="a"))).questions
    assert (question.problem.problem, question.problem.answer) == ("1+1?", "2")


def test_example_is_a_benchmark(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "examples")
    monkeypatch.setattr("openrlhf_math.evaluation.benchmarks.BENCHMARKS", Registry(BENCHMARKS))
    one = read_set("own_benchmark.products", Reading())
    assert len(one.questions) == 100 and one.sampling.samples == 4
    assert {question.labels["difficulty"] for question in one.questions} == {"1", "2", "3", "4"}
