"""Rows of a file in every format, compressed or not, and the commands that read them one after the other."""

import csv
import gzip
import io
import json
import tracemalloc
from codecs import BOM_UTF8

import pytest

from openrlhf_math.cli import main
from openrlhf_math.data import tables
from openrlhf_math.data.columns import MISSING, look
from openrlhf_math.data.tables import Keys, read_table, rows_of
from openrlhf_math.errors import UserError

ROWS = [
    {"gold": "72", "response": r"\boxed{72}", "problem": "How many?"},
    {"gold": "72", "response": r"\boxed{71}", "problem": "How many?"},
    {"gold": "5", "response": "two lines\n, \"5\"", "problem": "And now?"},
]  # fmt: skip


def jsonl(rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def array(rows) -> bytes:
    return json.dumps(rows, indent=1).encode()


def csv_of(rows) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def parquet(rows) -> bytes:
    written = pytest.importorskip("pyarrow.parquet")
    file = io.BytesIO()
    written.write_table(pytest.importorskip("pyarrow").Table.from_pylist(rows), file)
    return file.getvalue()


def tsv(rows) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), delimiter="\t")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def arrow(rows, kind="new_stream") -> bytes:
    pa = pytest.importorskip("pyarrow")
    table, file = pa.Table.from_pylist(rows), io.BytesIO()
    with getattr(pa.ipc, kind)(file, table.schema) as writer:
        writer.write_table(table)
    return file.getvalue()


def zstd(text: bytes) -> bytes:
    return pytest.importorskip("pyarrow").compress(text, "zstd", asbytes=True)


FORMATS = {
    "rows.jsonl": jsonl, "rows.json": array, "rows.csv": csv_of, "rows.parquet": parquet, "rows": array,
    "marked.jsonl": lambda rows: BOM_UTF8 + jsonl(rows), "marked.json": lambda rows: BOM_UTF8 + array(rows),
    "marked.csv": lambda rows: BOM_UTF8 + csv_of(rows),
    "rows.jsonl.gz": lambda rows: gzip.compress(jsonl(rows)), "rows.csv.gz": lambda rows: gzip.compress(csv_of(rows)),
    "rows.tsv": tsv, "rows.ndjson": jsonl, "rows.arrow": arrow, "file.arrow": lambda rows: arrow(rows, "new_file"),
    "array.jsonl": array, "line.json": lambda rows: json.dumps(rows).encode(), "lines.json": jsonl,
    "marked.jsonl.gz": lambda rows: gzip.compress(BOM_UTF8 + jsonl(rows)),
    "rows.arrow.gz": lambda rows: gzip.compress(arrow(rows)),
    "blank.json": lambda rows: b"\n \n" + array(rows), "rows.jsonl.zst": lambda rows: zstd(jsonl(rows)),
    "rows.json.zst": lambda rows: zstd(array(rows)), "rows.parquet.gz": lambda rows: gzip.compress(parquet(rows)),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_formats(name, tmp_path):
    file = tmp_path / name
    file.write_bytes(FORMATS[name](ROWS))
    assert [row for _, _, row in read_table(str(file))] == ROWS


@pytest.mark.parametrize(
    "name, content",
    [
        ("rows.jsonl", b""), ("rows.jsonl", b"\n\n"), ("rows.json", b"[]"), ("rows.csv", b"gold,response\n"),
        ("rows.csv", b""), ("rows.jsonl.gz", b"no gzip"), ("rows.parquet", b"no parquet"), ("rows.json", b"[{},\n 5"),
        ("rows.csv", b"a,b\n1,2,3\n"), ("rows.jsonl.zst", b"no zstd"), ("rows.jsonl", '{"gold": "5"}'.encode("utf-16")),
        ("rows.csv", "gold,response\n5,5\n".encode("utf-16")), ("rows.json", "[{}]".encode("utf-16-le")),
        ("rows.jsonl.gz", gzip.compress(jsonl(ROWS * 99))[:-20]), ("rows.arrow", b"no arrow"),
        ("rows.json", b'[{"gold": "5"}, {"gold": }]'), ("rows.json", b'[{"gold": "5"}'),
    ],
)  # fmt: skip
def test_invalid_tables(name, content, tmp_path, capsys):
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(UserError, match=name.split(".")[0]):
        list(read_table(str(file)))
    assert main(["grade", str(file)]) == 2
    assert main(["vote", str(file)]) == 2
    assert name in capsys.readouterr().err


@pytest.mark.parametrize("row", [{"gold": float("nan"), "response": "5"}, {"gold": True, "response": "5"}])
def test_non_text_gold(row, tmp_path, capsys):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(jsonl([row]))
    assert main(["grade", str(file)]) == 2
    assert main(["vote", str(file)]) == 2
    assert "line 1: `gold`" in capsys.readouterr().err


def test_responses_in_a_list():
    assert Keys().renamed({"gold": "5", "response": ["a"]}) == {"gold": "5", "responses": ["a"]}


def test_keys():
    row = {"answer": "5", "output": ["a", "b"], "problem": "kept out", "question": "how?"}
    renamed = Keys("answer", "output", "question").renamed(row)
    assert renamed == {"gold": "5", "responses": ["a", "b"], "problem": "how?"}


def test_grade_then_vote(tmp_path, capsys):
    """Rows under other names, graded, then voted over as they come out, without a script between."""
    rows = [{"answer": row["gold"], "output": row["response"], "question": row["problem"]} for row in ROWS]
    file, graded = tmp_path / "rows.csv", tmp_path / "graded.jsonl"
    file.write_bytes(csv_of(rows))
    keys = ["--gold-key", "answer", "--response-key", "output", "--problem-key", "question"]
    assert main(["grade", str(file), "--output", str(graded), "--workers", "1", *keys]) == 0
    written = [json.loads(line) for line in graded.read_text().splitlines()]
    assert [row["outcome"] for row in written] == ["correct", "format", "wrong"]
    assert [row["graded_answer"] for row in written] == ["72", "71", None]
    assert [row["answer"] for row in written] == [row["gold"] for row in ROWS]
    capsys.readouterr()
    assert main(["vote", str(graded), "--json", "--subsets", "2", "--workers", "1", *keys]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["problems"] == 2


TURNS = [{"from": "human", "value": "1+1?"}, {"from": "assistant", "ground_truth": {"value": "2"}}]


@pytest.mark.parametrize(
    "name, content",
    [
        ("rows.json", json.dumps([TURNS, TURNS])), ("rows.json", json.dumps([TURNS, TURNS], indent=4)),
        ("rows.jsonl", json.dumps(TURNS) + "\n" + json.dumps(TURNS) + "\n"),
    ],
)  # fmt: skip
def test_rows_that_are_lists_of_turns(name, content, tmp_path):
    file = tmp_path / name
    file.write_text(content)
    assert [row for _, row in rows_of(str(file))] == [{"conversations": TURNS}] * 2


def test_broken_row_keeps_its_position(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'\n{"n": 1}\n{"n": \n[1]\n\n\xff\n' + b'{"n": 2}')
    found = [(number, row if isinstance(row, dict) else None) for number, row in rows_of(str(file))]
    assert found == [(2, {"n": 1}), (3, None), (4, None), (6, None), (7, {"n": 2})]
    file = tmp_path / "rows.json"
    file.write_text('[{"n": 1}, 5, {"n": 2}]')
    found = [(number, row if isinstance(row, dict) else None) for number, row in rows_of(str(file))]
    assert found == [(1, {"n": 1}), (2, None), (3, {"n": 2})]


def test_array_is_read_entry_by_entry(tmp_path, monkeypatch):
    """Chunks end within texts, numbers and letters of several bytes; no more than a chunk or two is in memory."""
    monkeypatch.setattr(tables, "CHUNK", 64)
    rows = [{"n": n, "text": "é" * (n % 50) + '"\\[{', "x": 10.0**n, "list": [[n]]} for n in range(300)]
    file = tmp_path / "rows.json"
    file.write_text(json.dumps(rows, ensure_ascii=False))
    assert [row for _, row in rows_of(str(file))] == rows
    monkeypatch.setattr(tables, "CHUNK", 1 << 14)
    file.write_text("[" + ",".join(['{"text": "' + "x" * 1000 + '"}'] * 20_000) + "]")  # 20 MB
    tracemalloc.start()
    assert sum(1 for _ in rows_of(str(file))) == 20_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_fields_within_columns():
    row = {"a": {"gold": "5"}, "b": '{"said": ["no", "yes"]}', "a.c": 1}
    assert look(row, "a.gold") == "5" and look(row, "b.said.-1") == "yes" and look(row, "a.c") == 1
    assert {look(row, name) for name in ("a.d", "b.said.2", "c", "a.gold.x", "b.said.one")} == {MISSING}
    assert Keys("a.gold", "b.said.0").renamed(row) == row | {"gold": "5", "response": "no"}
