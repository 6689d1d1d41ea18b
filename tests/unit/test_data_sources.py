"""The columns of each known source, read into the schema; a row that cannot be read says why."""

import pytest

from openrlhf_math.data.columns import Columns
from openrlhf_math.data.schema import BrokenRow, Row
from openrlhf_math.data.sources import SOURCES, PlainReader, recognise

NUMINA = {
    "problem": "What is 2+2?",
    "solution": "It is 4.",
    "answer": "4",
    "problem_type": "Algebra",
    "question_type": "math-word-problem",
    "problem_is_valid": "Yes",
    "solution_is_valid": "Yes",
    "source": "olympiads",
    "synthetic": False,
}
OPENR1 = {
    **{name: NUMINA[name] for name in ("problem", "solution", "answer", "problem_type", "question_type", "source")},
    "uuid": "1",
    "generations": ["<think>no</think> 5", "<think>cut", "<think>yes</think> 4"],
    "correctness_math_verify": [False, True, True],
    "correctness_llama": None,
    "is_reasoning_complete": [True, False, True],
    "finish_reasons": None,
    "correctness_count": 1,
    "messages": [],
}
STRATOS = {
    "system": "Your role as an assistant ...",
    "conversations": [
        {"from": "user", "value": r"Return your final response within \boxed{}. What is 2+2?"},
        {
            "from": "assistant",
            "value": r"<|begin_of_thought|>easy<|end_of_thought|><|begin_of_solution|>\boxed{4}<|end_of_solution|>",
        },
    ],
}
GSM8K = {"question": "What is 2+2?", "answer": "It is <<2+2=4>>4.\n#### 4"}
MATH = {"problem": "What is 2+2?", "level": "Level 5", "type": "Algebra", "solution": r"It is $\boxed{4}$."}
MATH_500 = {**MATH, "level": 5, "subject": "Algebra", "answer": "4", "unique_id": "x"}
OLYMPIAD = {
    "question": "What is 2+2?",
    "final_answer": ["4"],
    "solution": ["It is 4."],
    "subfield": "Algebra",
    "context": None,
}
ROWS = {
    "numinamath-1.5": NUMINA,
    "openr1-math-220k": OPENR1,
    "bespoke-stratos-17k": STRATOS,
    "gsm8k": GSM8K,
    "math": {**MATH},
    "math-500": MATH_500,
    "olympiadbench": OLYMPIAD,
}


@pytest.mark.parametrize("name", ROWS)
def test_known_source_is_detected_by_its_columns(name):
    assert recognise(ROWS[name]) == name
    row = SOURCES[name].read(ROWS[name])
    assert (row.problem, row.answer) == ("What is 2+2?", "4")
    assert SOURCES[name].hub and SOURCES[name].licence in ("mit", "apache-2.0")


def test_extra_columns_of_sources():
    assert SOURCES["numinamath-1.5"].read(NUMINA | {"question_type": "MCQ"}).kind == "choice"
    incomplete = NUMINA | {"problem_is_valid": "Incomplete"}
    assert SOURCES["numinamath-1.5"].read(incomplete).flaw == "problem marked 'Incomplete'"
    assert SOURCES["openr1-math-220k"].read(OPENR1).trace == "<think>yes</think> 4"
    assert SOURCES["openr1-math-220k"].read(OPENR1 | {"correctness_math_verify": None}).trace is None
    assert SOURCES["bespoke-stratos-17k"].read(STRATOS).trace == r"<think>easy</think>\boxed{4}"
    assert SOURCES["gsm8k"].read(GSM8K).solution == "It is 4.\n#### 4".partition("\n")[0]
    assert SOURCES["gsm8k"].read({"question": "What is 2+2?", "answer": "4"}).answer == "4"
    assert SOURCES["math"].read(MATH).difficulty == SOURCES["math-500"].read(MATH_500).difficulty == 5


@pytest.mark.parametrize(
    "row, columns, answer",
    [
        ({"problem": "What is 2+2?", "answer": 4}, Columns(), "4"),
        ({"problem": "What is 2+2?", "answer": 4.0}, Columns(), "4"),
        ({"question": "What is 2+2?", "gold": "4"}, Columns(), "4"),
        ({"Q": "What is 2+2?", "A": "4"}, Columns(problem="Q", answer="A"), "4"),
        ({"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "What is 2+2?"}], "label": "4"},
         Columns(), "4"),
        ({"problem": "What is 2+2?", "solution": r"\boxed{4}"}, Columns(), "4"),
        ({"problem": "What is 2+2?"}, Columns(), ""),
    ],
)  # fmt: skip
def test_plain_columns(row, columns, answer):
    read = PlainReader(columns)(row)
    assert (read.problem, read.answer) == ("What is 2+2?", answer)


@pytest.mark.parametrize(
    "row, reason",
    [
        ({"answer": "4"}, "no problem"),
        ({"problem": None, "answer": "4"}, "no problem"),
        ({"problem": "  ", "answer": "4"}, "no problem"),
        ({"problem": 7, "answer": "4"}, "7 where text must be"),
        ({"problem": "p", "answer": True}, "the gold answer is True"),
        ({"problem": "p", "answer": "9" * (1 << 20)}, "the gold answer has 1,048,576 characters"),
        ({"problem": "p" * 3_000_000, "answer": "4"}, "the problem has 3,000,000 characters"),
        ({"problem": "p\ud800", "answer": "4"}, "not valid Unicode"),
        ({"problem": b"p\xff", "answer": "4"}, "not valid UTF-8"),
    ],
)
def test_broken_row_gives_a_reason(row, reason):
    with pytest.raises(BrokenRow, match=reason):
        PlainReader()(row)


@pytest.mark.parametrize(
    "wrong",
    [{"answer": None}, {"answer": 4}, {"kind": "essay"}, {"difficulty": "hard"}, {"solution": 7}, {"trace": ["x"]}],
)
def test_reader_rows_match_the_schema_types(wrong):
    with pytest.raises(BrokenRow):
        Row(**{"problem": "What is 2+2?", "answer": "4"} | wrong)
