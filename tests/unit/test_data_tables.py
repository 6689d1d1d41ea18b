"""Rows of a file in every format, compressed or not, and the commands that read them one after the other."""

import csv
import gzip
import io
import json
from codecs import BOM_UTF8

import pytest

from openrlhf_math.cli import main
from openrlhf_math.data.tables import Keys, read_table
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


def zstd(text: bytes) -> bytes:
    return pytest.importorskip("pyarrow").compress(text, "zstd", asbytes=True)


FORMATS = {
    "rows.jsonl": jsonl, "rows.json": array, "rows.csv": csv_of, "rows.parquet": parquet, "rows": array,
    "marked.jsonl": lambda rows: BOM_UTF8 + jsonl(rows), "marked.json": lambda rows: BOM_UTF8 + array(rows),
    "marked.csv": lambda rows: BOM_UTF8 + csv_of(rows),
    "rows.jsonl.gz": lambda rows: gzip.compress(jsonl(rows)), "rows.csv.gz": lambda rows: gzip.compress(csv_of(rows)),
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
        ("rows.csv", b"a,b\n1,2,3\n"), ("rows.jsonl.zst", b"no zstd"),
    ],
)  # fmt: skip
def test_what_is_no_table(name, content, tmp_path, capsys):
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(UserError, match=name.split(".")[0]):
        list(read_table(str(file)))
    assert main(["grade", str(file)]) == 2
    assert main(["vote", str(file)]) == 2
    assert name in capsys.readouterr().err


@pytest.mark.parametrize("row", [{"gold": float("nan"), "response": "5"}, {"gold": True, "response": "5"}])
def test_a_gold_that_is_no_text(row, tmp_path, capsys):
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
    told = json.loads(capsys.readouterr().out)
    assert told["problems"] == 2
