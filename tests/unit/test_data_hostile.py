"""Ambiguous files, and bytes that are not text: each such row is refused rather than guessed."""

import asyncio
import contextlib
import json
from decimal import Decimal
from types import SimpleNamespace

import pyarrow
import pyarrow.parquet
import pytest

from openrlhf_math.data.columns import Columns, check_columns, gold_of, text_of
from openrlhf_math.data.conversations import BadRow, find_layout
from openrlhf_math.data.problems import Problem
from openrlhf_math.data.schema import BrokenRow
from openrlhf_math.data.tables import Damaged, Unreadable, rows_of
from openrlhf_math.distill.questions import key_of
from openrlhf_math.distill.teachers import Recorded
from openrlhf_math.errors import UserError


def read(path, content: bytes) -> list[bool]:
    """Of each row whether it can be read."""
    path.write_bytes(content)
    return [not isinstance(row, Unreadable) for _, row in rows_of(str(path))]


@pytest.mark.parametrize(
    "name, content",
    [
        ("rows.jsonl", b'{"a": "x"}\n{"a": "\xff"}\n{"a": "\xc3\xa9"}\n'),
        ("rows.json", b'[{"a": "x"}, {"a": "\xff"}, {"a": "\xc3\xa9"}]'),
        ("rows.csv", b"a,b\nx,1\n\xff,2\n\xc3\xa9,3\n"),
        ("rows.tsv", b"a\tb\nx\t1\n\xff\t2\n\xc3\xa9\t3\n"),
    ],
)
def test_invalid_utf_8_is_not_replaced(name, content, tmp_path):
    assert read(tmp_path / name, content) == [True, False, True]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
@pytest.mark.parametrize("broken", ['{"a": 1, "a": 2}', '{"b": [{"c": 1, "c": 1}]}'])
def test_duplicate_key(name, broken, tmp_path):
    rows = ['{"a": 1}', broken, '{"a": 3}']
    text = "\n".join(rows) if name.endswith("l") else f"[{', '.join(rows)}]"
    assert read(tmp_path / name, text.encode()) == [True, False, True]


def test_duplicate_column(tmp_path):
    csv, parquet, arrow = (tmp_path / f"rows.{end}" for end in ("csv", "parquet", "arrow"))
    table = pyarrow.table([pyarrow.array(["x"]), pyarrow.array(["y"])], names=["a", "a"])
    csv.write_text("a,b,a\nx,1,y\n")
    pyarrow.parquet.write_table(table, parquet)
    with pyarrow.ipc.new_file(str(arrow), table.schema) as writer:
        writer.write_table(table)
    for path in (csv, parquet, arrow):
        with pytest.raises(UserError, match="'a'"):
            list(rows_of(str(path)))
    assert read(tmp_path / "without_names.csv", b"a,,\nx,,\n") == [True]


@pytest.mark.parametrize("content", [b'a,b\n"x,1\ny,2\n', b"\xff,b\nx,1\n"])
def test_unreadable_csv_quotes_and_names(content, tmp_path):
    with pytest.raises(UserError):
        read(tmp_path / "rows.csv", content)


def test_parquet_values_without_a_python_equivalent(tmp_path):
    same = pyarrow.array(["x", "y"])
    columns = {
        "date": pyarrow.array([2**31 - 1, 2], pyarrow.date32()),
        "time": pyarrow.array([9 * 10**18, 2], pyarrow.timestamp("us")),
    }
    for name, column in columns.items():
        path = tmp_path / f"{name}.parquet"
        pyarrow.parquet.write_table(pyarrow.table({"a": same, name: column}), path)
        assert [isinstance(row, dict) for _, row in rows_of(str(path))] == [False, True]
    path = tmp_path / "twice.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"a": pyarrow.StructArray.from_arrays([same, same], ["b", "b"])}), path)
    assert [isinstance(row, dict) for _, row in rows_of(str(path))] == [False, False]


def test_float32_values_round_trip(tmp_path):
    path = tmp_path / "rows.parquet"
    written = [0.1, 2.5, 3.0, 1e-7, None]
    pyarrow.parquet.write_table(pyarrow.table({"answer": pyarrow.array(written, pyarrow.float32())}), path)
    assert [row["answer"] for _, row in rows_of(str(path)) if isinstance(row, dict)] == written


def test_golds_beyond_float_precision():
    for gold in (float("inf"), -1e400, 12345678901234567890123.0, -1e23, '{"value": 4}'):
        with pytest.raises(BrokenRow):
            gold_of(gold)
    exact = {2.0**53: "9007199254740992", 12345678901234567890123: "12345678901234567890123", 0.5: "0.5", "{}": "{}"}
    assert {gold: gold_of(gold) for gold in exact} == exact
    assert gold_of(r"{1, 2}") == "{1, 2}"


def test_decimals_of_databases_are_numbers(tmp_path):
    path = tmp_path / "rows.parquet"
    written = [Decimal("2.00"), Decimal("-0.50"), Decimal("12345678901234567.25"), None]
    column = pyarrow.array(written, pyarrow.decimal128(30, 2))
    pyarrow.parquet.write_table(pyarrow.table({"answer": column}), path)
    golds = [gold_of(row["answer"]) for _, row in rows_of(str(path)) if isinstance(row, dict)]
    assert golds == ["2", "-0.5", "12345678901234567.25", ""]
    for nothing in ("NaN", "Infinity"):
        with contextlib.suppress(BrokenRow):
            assert gold_of(Decimal(nothing)) == ""


def test_error_lists_few_of_many_columns():
    with pytest.raises(UserError) as error:
        check_columns("set", [{f"c{number}": 1 for number in range(100_000)}], Columns(), ("problem",), {})
    assert len(str(error.value)) < 5000


ASKED, SAID = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}


@pytest.mark.parametrize(
    "messages",
    [
        {"role": ["user", "assistant", "user", "assistant"], "content": ["a", "b"]},
        str([ASKED, SAID]),
        {"messages": [ASKED, SAID], "functions": [{"name": "f"}]},
        {"messages": [ASKED, SAID], "system": ["s"]},
        {"messages": [{"role": "system", "content": "s"}, ASKED, SAID], "system": "t"},
        [ASKED, SAID | {"weight": 0.5}],
        [ASKED, SAID | {"weight": "0"}],
        [ASKED, SAID | {"content": [{"type": "text", "text": 5}]}],
    ],
)
def test_messages_with_unsupported_parts(messages):
    row = messages if "messages" in messages else {"messages": messages}
    layout = find_layout("set", [{"messages": [ASKED, SAID]}], (None, None), False)
    with pytest.raises(BadRow):
        layout.turns(json.loads(json.dumps(row)))


@pytest.mark.parametrize(
    "record, reason",
    [
        ({"response": "x", "truncated": "False"}, "stop"),
        ({"response": "x", "truncated": "true"}, "length"),
        ({"response": "x", "truncated": None}, "stop"),
        ({"response": "x", "truncated": "maybe"}, None),
        ({"response": "x", "truncated": [False]}, None),
        ({"responses": ["x"], "tokens": 5, "truncated": [False]}, None),
        ({"responses": ["x"], "tokens": [5], "truncated": "f"}, None),
    ],
)
def test_how_a_recorded_completion_ended(record, reason, tmp_path):
    path = tmp_path / "rollouts.jsonl"
    path.write_text(json.dumps({"problem": "p"} | record))
    settings = SimpleNamespace(model=str(path))
    if reason is None:
        with pytest.raises(UserError):
            Recorded(settings)
        return
    question = SimpleNamespace(key=key_of(Problem("p", "", "", 0)), attempt=0)
    assert asyncio.run(Recorded(settings).answer(question)).finish_reason == reason


@pytest.mark.parametrize("prompt", [str([ASKED]), "[ " + str(ASKED) + "]", str([{"content": "a", "role": "user"}])])
def test_prompts_as_python_writes_messages(prompt):
    row = {"prompt": prompt, "response": "b"}
    with pytest.raises(BadRow):
        find_layout("set", [row], (None, None), False).turns(row)
    with pytest.raises(BrokenRow):
        text_of(prompt)


@pytest.mark.parametrize("prompt", [json.dumps(ASKED), f" [ {json.dumps(ASKED)}]", "a"])
def test_prompts_as_json(prompt):
    row = {"prompt": prompt, "response": "b", "system": float("nan"), "history": []}
    turns = find_layout("set", [row], (None, None), False).turns(row)
    assert [(turn.role, turn.content) for turn in turns] == [("user", "a"), ("assistant", "b")]


def test_prompt_parts_in_other_columns():
    row = {"instruction": "Add.", "input": "1 2", "output": "3"}
    with pytest.raises(UserError, match="instruction"):
        find_layout("set", [row], (None, None), False)
    named = find_layout("set", [row], ("input", "output"), False)
    assert [turn.content for turn in named.turns(row)] == ["1 2", "3"]
    row = {"prompt": "c", "response": "d", "history": [["a", "b"]]}
    with pytest.raises(BadRow):
        find_layout("set", [row], (None, None), False).turns(row)


@pytest.mark.parametrize(
    ("content", "read"),
    [
        ('a,b\n1,2\n"x"y,3\n4,5\n', ["1", None, "4"]),
        ('a,b\n1,"2" \n3,4\n', [None, "3"]),
        ('a,b\n"x\ny"z,3\n4,5\n', [None, "4"]),
        ('a,b\n2,he said "hi"\n"a ""q"" b",1\n', ["2", 'a "q" b']),
    ],
)
def test_stray_quote_affects_only_its_row(content, read, tmp_path):
    (tmp_path / "rows.csv").write_text(content)
    rows = [None if isinstance(row, Unreadable) else row["a"] for _, row in rows_of(str(tmp_path / "rows.csv"))]
    assert rows == read


@pytest.mark.parametrize("content", ['a,b\n"1,2\n3,4\n"5","6"\n', 'a,b\n"1"x,"2\n3",4\n5,6\n', 'a,b\n1,"2\n'])
def test_unclosed_quote_is_refused(content, tmp_path):
    (tmp_path / "rows.csv").write_text(content)
    with pytest.raises(Damaged):
        list(rows_of(str(tmp_path / "rows.csv")))
