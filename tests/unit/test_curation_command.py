"""`openrlhf-math curate` on small files: what is kept, reported and refused."""

import hashlib
import json
import re
import shlex
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from openrlhf_math.cli import main
from openrlhf_math.curation import inputs, matching, pipeline, reading, writing
from openrlhf_math.curation.settings import CurationSettings
from openrlhf_math.curation.summary import card
from openrlhf_math.data import tables
from openrlhf_math.data.sources import SOURCES

STORY = "Tom has {} red boxes and buys {} more blue boxes at the market. How many boxes does he have?"
ROWS = [{"problem": STORY.format(n, 7 * n), "answer": str(8 * n), "level": "Level 2"} for n in range(3, 23)]


def write(path: Path, rows) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=5)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def curate(tmp_path, *arguments, name="out") -> tuple[int, Path]:
    output = tmp_path / name
    return main(["curate", *map(str, arguments), "--output", str(output), "--workers", "0"]), output


def rows_of(output: Path) -> list[dict]:
    return [row for path in sorted((output / "data").iterdir()) for row in pq.read_table(path).to_pylist()]


def report(output: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (output / "reports" / f"{name}.jsonl").read_text().splitlines()]


def steps(output: Path) -> dict[str, int]:
    return dict(json.loads((output / "reports/counts.json").read_text())["steps"])


def digest(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Several pieces, batches and key ranges in files of twenty rows."""
    monkeypatch.setattr(inputs, "PIECE_ROWS", 7)
    for module in (tables, reading, writing):
        monkeypatch.setattr(module, "BATCH_ROWS", 3)
    monkeypatch.setattr(pipeline, "KEYS_A_RANGE", 200)
    monkeypatch.setattr(matching, "_PAIRS_AT_ONCE", 4)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_rows_are_ordered_and_located(suffix, tmp_path):
    source = write(tmp_path / f"rows{suffix}", ROWS)
    code, output = curate(tmp_path, "--source", f"mine={source}", "--licence", "mine=mit")
    assert code == 0
    rows = rows_of(output)
    assert [row["problem"] for row in rows] == [row["problem"] for row in ROWS]
    assert [row["row"] for row in rows] == list(range(1, 21))
    assert rows[4] == {
        "problem": STORY.format(7, 49),
        "answer": "56",
        "solution": None,
        "source": "mine",
        "origin": None,
        "kind": "open",
        "subject": None,
        "difficulty": 2.0,
        "trace": None,
        "file": str(source),
        "row": 5,
        "also_in": [],
    }
    card = (output / "README.md").read_text()
    assert card.startswith('---\nlicense: "mit"\n') and "| mine | mit | 20 | 20 |" in card
    assert f"openrlhf-math curate --source mine={source} --licence mine=mit --output DIRECTORY" in card
    assert sorted(path.name for path in output.iterdir()) == ["README.md", "curate.json", "data", "reports"]


@pytest.mark.parametrize("licence", ["mine: no copies", "a | b", "no", "[x", "# none"])
def test_card_holds_any_licence_as_text(licence, tmp_path):
    source = write(tmp_path / "rows.jsonl", ROWS)
    code, output = curate(tmp_path, "--source", f"mine={source}", "--licence", f"mine={licence}")
    card = (output / "README.md").read_text()
    assert code == 0 and yaml.safe_load(card.split("---\n")[1])["license"] == licence
    (line,) = (line for line in card.splitlines() if line.startswith("| mine |"))
    assert re.split(r"(?<!\\)\|", line)[2].replace("\\|", "|").strip() == licence


def test_card_has_the_licences_of_all_places_of_one_name():
    places = [("a", "mit"), ("b", "apache-2.0"), ("c", "mit")]
    files = [inputs.Input("source", "mine", file, file, "lines", "", licence) for file, licence in places]
    counts = {
        "written": 1, "steps": [("rows read", 1)], "by_source": {"mine": {"read": 1, "written": 1}}, "broken_files": 0,
    }  # fmt: skip
    text = card(CurationSettings(sources=("a", "b", "c")), files, counts)
    assert yaml.safe_load(text.split("---\n")[1])["license"] == "other"
    assert "| mine | mit, apache-2.0 | 1 | 1 |" in text


def test_dataset_loads(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    _, output = curate(tmp_path, "--source", write(tmp_path / "rows.jsonl", ROWS))
    loaded = datasets.load_dataset(str(output), cache_dir=str(tmp_path / "cache"))
    assert loaded.keys() == {"train"} and loaded["train"].num_rows == 20
    assert loaded["train"][0]["answer"] == "24"
    (tmp_path / "elsewhere").mkdir()
    _, other = curate(tmp_path / "elsewhere", "--source", write(tmp_path / "elsewhere" / "rows.jsonl", ROWS[:7]))
    assert other.name == output.name
    assert datasets.load_dataset(str(other), cache_dir=str(tmp_path / "cache"))["train"].num_rows == 7


def test_first_duplicate_is_kept_with_all_locations(tmp_path):
    first = write(tmp_path / "first.jsonl", ROWS[:10])
    again = [
        row | {"problem": row["problem"].replace(" buys ", "  purchases ").replace(" 3 ", " three ")}
        for row in ROWS[:5]
    ]
    copies = [ROWS[12], ROWS[12], ROWS[12]]
    second = write(tmp_path / "second.parquet", again + copies + [ROWS[13] | {"problem": STORY.format(3, 22)}])
    code, output = curate(tmp_path, "--source", first, "--source", second)
    assert code == 0
    assert (steps(output)["rows read"], steps(output)["exact duplicates"], steps(output)["near-duplicates"]) == (
        19,
        17,
        12,
    )
    rows = rows_of(output)
    assert len(rows) == 12
    assert rows[0]["also_in"] == [f"second: {second}, row 1"]
    assert rows[10]["also_in"] == [f"second: {second}, row 7", f"second: {second}, row 8"]
    result = report(output, "duplicates")
    assert [one["how"] for one in result] == ["near"] * 5 + ["exact"] * 2
    assert result[0]["kept"] == f"first: {first}, row 1"
    assert result[6]["same_as"] == f"second: {second}, row 6"


def test_rows_with_different_golds_are_both_kept(tmp_path):
    alike = ROWS[0]["problem"].replace("boxes does he", "boxes then does he")
    problems = [(ROWS[0]["problem"], "25"), (alike, "25"), (alike, "26"), (ROWS[0]["problem"], "27"), (alike, "25.0")]
    golds = (r"\frac{\sqrt{2}}{2}", r"1/\sqrt 2", r"\sqrt{2}")
    formulas = [("Simplify the number x of page 7.", gold) for gold in golds]
    rows = [{"problem": problem, "answer": gold} for problem, gold in problems + formulas]
    _, output = curate(tmp_path, "--source", write(tmp_path / "rows.jsonl", rows))
    assert [row["row"] for row in rows_of(output)] == [1, 3, 4, 6, 8]


def test_suspects_are_listed_the_most_alike_first(tmp_path):
    problem = ROWS[3]["problem"]
    benchmark = write(tmp_path / "held-out.jsonl", [{"problem": problem}])
    rows = [
        {
            "problem": problem.replace("6", "8", 1) + " They are all full of toys, which he sold in town for a while.",
            "answer": "1",
        },
        {"problem": problem.replace("42", "43"), "answer": "2"},
        {"problem": problem, "answer": "3"},
        {"problem": "What is the value of 17 squared and of 5 cubed?", "answer": "4"},
    ]
    code, output = curate(
        tmp_path, "--source", write(tmp_path / "rows.jsonl", rows), "--benchmark", f"test={benchmark}"
    )
    suspects = report(output, "suspects")
    assert code == 0 and {one["row"] for one in suspects} == {1, 2}
    assert [one["share"] for one in suspects] == sorted((one["share"] for one in suspects), reverse=True)
    assert all(one["benchmark_problem"] == problem and not one["dropped"] for one in suspects)


def test_near_flag_covers_unexplained_words(tmp_path):
    other = ROWS[0] | {"problem": ROWS[0]["problem"].replace("market", "harbour")}
    source = write(tmp_path / "rows.jsonl", [ROWS[0], other])
    for near, kept in (("1", [1, 2]), ("0.8", [1])):
        _, output = curate(tmp_path / near, "--source", source, "--near", near)
        assert [row["row"] for row in rows_of(output)] == kept
    assert curate(tmp_path, "--source", source, "--near", "0.5")[0] == 2


def test_comparison_with_another_set(tmp_path):
    other = write(tmp_path / "other.jsonl", [{"question": row["problem"]} for row in ROWS[:5]])
    source = write(tmp_path / "rows.jsonl", ROWS)
    code, output = curate(tmp_path, "--source", source, "--against", other)
    assert code == 0
    assert [row["row"] for row in rows_of(output)] == list(range(6, 21))
    assert steps(output)["in the sets of --against"] == 15
    assert all(one["against"] and one["kept"].startswith("other: ") for one in report(output, "duplicates"))


def test_benchmark_problems_are_removed_and_listed_with_both_texts(tmp_path):
    benchmark = write(tmp_path / "held-out.jsonl", [{"problem": ROWS[3]["problem"]}, {"problem": ROWS[9]["problem"]}])
    hidden = {
        "problem": f"Think about this at length. {ROWS[9]['problem']} Explain every step of it in full.",
        "answer": "1",
    }
    source = write(tmp_path / "rows.jsonl", [*ROWS, hidden])
    code, output = curate(tmp_path, "--source", source, "--benchmark", f"test={benchmark}")
    assert code == 0
    assert [row["row"] for row in rows_of(output)] == [n for n in range(1, 21) if n not in (4, 10)]
    hits = [hit for hit in report(output, "contamination") if hit["dropped"]]
    assert [(hit["row"], hit["how"], hit["benchmark_row"]) for hit in hits] == [
        (4, "exact", 1),
        (10, "exact", 2),
        (21, "near", 2),
    ]
    assert hits[2]["problem"] == hidden["problem"] and hits[2]["benchmark_problem"] == ROWS[9]["problem"]
    assert "| test | 2 | 3 |" in (output / "README.md").read_text()


@pytest.mark.parametrize("name", ["gsm8k", "gsm8k-test", "math-500", "olympiadbench", "aime", "numinamath-1.5", "own"])
@pytest.mark.parametrize("columns", [("problem", "answer"), ("question", "answer"), ("prompt", "label")])
def test_benchmark_of_a_known_name_with_the_usual_columns_is_read(name, columns, tmp_path):
    rows = [dict(zip(columns, (row["problem"], row["answer"]), strict=True)) for row in ROWS[:4]]
    benchmark = write(tmp_path / "held-out.jsonl", rows)
    source = write(tmp_path / "rows.jsonl", ROWS)
    code, output = curate(tmp_path, "--source", source, "--benchmark", f"{name}={benchmark}")
    counts = json.loads((output / "reports/counts.json").read_text())
    assert code == 0 and counts["benchmarks"] == {name: 4} and counts["contaminated"] == {name: 4}
    assert f"| {name} | 4 | 4 |" in (output / "README.md").read_text()


def test_source_of_a_known_name_with_the_usual_columns_is_read(tmp_path):
    rows = [{"prompt": row["problem"], "label": f"It is so.\n#### {row['answer']}"} for row in ROWS]
    code, output = curate(tmp_path, "--source", f"gsm8k={write(tmp_path / 'rows.jsonl', rows)}")
    assert code == 0
    assert [(row["problem"], row["answer"]) for row in rows_of(output)] == [
        (row["problem"], row["answer"]) for row in ROWS
    ]


@pytest.mark.parametrize("good, code", [(0, 2), (1, 2), (17, 2), (18, 0), (20, 0)])
def test_benchmark_with_few_problems_is_refused(good, code, tmp_path, capsys):
    rows = [{"text" if number >= good else "problem": row["problem"]} for number, row in enumerate(ROWS)]
    benchmark = write(tmp_path / "held-out.jsonl", rows)
    source = write(tmp_path / "rows.jsonl", ROWS + [{"problem": "What is the capital of France, then?", "answer": "2"}])
    given, output = curate(tmp_path, "--source", source, "--benchmark", f"aime={benchmark}")
    assert given == code and output.exists() == (code == 0)
    if code:
        message = capsys.readouterr().err
        assert f"--benchmark aime: only {good} of its 20 rows" in message and "--problem-key" in message
    else:
        assert len(report(output, "rejects")) == 20 - good


def test_filters_are_counted_and_reported(tmp_path):
    rows = [
        *ROWS[:2],
        {"problem": "Prove that 2 is prime.", "answer": "proof"},
        {"problem": "What is 1 + 1 here?", "answer": ""},
    ]
    source = write(tmp_path / "rows.jsonl", rows)
    _, output = curate(tmp_path, "--source", source)
    assert [(one["row"], one["filter"]) for one in report(output, "filtered")] == [(3, "proof"), (4, "gold")]
    assert steps(output)["filter: proof"] == 3 and steps(output)["filter: gold"] == 2
    _, output = curate(tmp_path, "--source", source, "--filters", "gold", name="other")
    assert [(one["row"], one["filter"]) for one in report(output, "filtered")] == [(4, "gold")]


BROKEN = [
    (b'{"answer": "4"}', "there is no problem"),
    (b'{"problem": "What is it?", "answer": "' + b"9" * (1 << 20) + b'"}', "the gold answer has 1,048,576 characters"),
    (b'{"problem": "What \xff is it?", "answer": "4"}', "not valid UTF-8"),
    (b'{"problem": "What is it?"', "not JSON"),
    (b"[" * 100_000, "not JSON"),
    (b'["What is it?"]', "not a JSON object"),
    (rb'{"problem": "What \ud800 is it?", "answer": "4"}', "not valid Unicode"),
    (b'{"problem": {"text": 1}, "answer": "4"}', "where text must be"),
    (b"\x00\x01\x02", "not JSON"),
]


def test_broken_rows_are_named_and_affect_no_other(tmp_path, capsys):
    good = [json.dumps(row).encode() for row in ROWS]
    lines = [line for number, line in enumerate(good) for line in ([BROKEN[number][0], line] if number < 9 else [line])]
    source = tmp_path / "rows.jsonl"
    source.write_bytes(b"\n".join(lines) + b"\n\n")
    code, output = curate(tmp_path, "--source", source)
    assert code == 0
    assert [row["problem"] for row in rows_of(output)] == [row["problem"] for row in ROWS]
    result = report(output, "rejects")
    assert [one["row"] for one in result] == list(range(1, 18, 2))
    for one, (_, reason) in zip(result, BROKEN, strict=True):
        assert reason in one["reason"] and one["file"] == str(source) and len(one["beginning"]) <= 200
    assert steps(output)["broken rows set aside"] == 20
    assert "broken rows set aside" in capsys.readouterr().out


def test_non_text_parquet_row_affects_no_other(tmp_path):
    texts = pa.array([row["problem"].encode() for row in ROWS[:9]] + [b"What \xff is it?"], pa.binary())
    table = pa.table({"problem": texts.view(pa.string()), "answer": [row["answer"] for row in ROWS[:10]]})
    pq.write_table(table, tmp_path / "rows.parquet")
    code, output = curate(tmp_path, "--source", tmp_path / "rows.parquet")
    assert code == 0 and len(rows_of(output)) == 9
    assert [(one["row"], "not valid UTF-8" in one["reason"]) for one in report(output, "rejects")] == [(10, True)]


def test_truncated_parquet_file_is_skipped(tmp_path, capsys):
    whole = write(tmp_path / "whole.parquet", ROWS)
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    code, output = curate(tmp_path, "--source", f"cut={cut}", "--source", whole)
    assert code == 0 and len(rows_of(output)) == 20
    assert f"{cut} was set aside" in capsys.readouterr().err
    assert [(one["file"], one["row"]) for one in report(output, "rejects")] == [(str(cut), None)]
    assert "1 files could not be read" in (output / "README.md").read_text()
    code, output = curate(tmp_path, "--source", f"cut={cut}", name="alone")
    assert code == 2 and "none of its files can be read" in capsys.readouterr().err
    assert not output.exists()


def test_damaged_row_group_affects_no_other(tmp_path):
    source = write(tmp_path / "rows.parquet", ROWS)
    column = pq.read_metadata(source).row_group(2).column(0)
    damaged = bytearray(source.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    damaged[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    source.write_bytes(damaged)
    code, output = curate(tmp_path, "--source", f"mine={source}")
    assert code == 0
    assert [row["row"] for row in rows_of(output)] == [*range(1, 11), *range(16, 21)]
    assert [one["row"] for one in report(output, "rejects")] == list(range(11, 16))
    assert "row group 2 is damaged" in report(output, "rejects")[0]["reason"]


def test_interrupted_run_resumes_to_the_same_bytes(tmp_path, monkeypatch):
    source = write(tmp_path / "rows.jsonl", ROWS + ROWS[:6])
    _, undisturbed = curate(tmp_path, "--source", source)
    for stage in ("read_piece", "pair_range", "verify_piece", "write_piece"):
        done = getattr(pipeline, stage)

        def cut_short(*arguments, done=done):
            if arguments[-1] == 1:
                raise KeyboardInterrupt
            return done(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(pipeline, stage, cut_short)
            assert curate(tmp_path, "--source", source, name="cut")[0] == 130
        assert not (tmp_path / "cut/README.md").exists()
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "read_piece", str.upper)  # what is done is not done again
        assert curate(tmp_path, "--source", source, name="cut")[0] == 0
    assert digest(tmp_path / "cut") == digest(undisturbed)


def test_repeated_command_changes_nothing(tmp_path, capsys):
    source = write(tmp_path / "rows.jsonl", ROWS)
    _, output = curate(tmp_path, "--source", source)
    before = digest(output)
    assert curate(tmp_path, "--source", source)[0] == 0
    assert "complete already" in capsys.readouterr().out
    assert digest(output) == before


def test_another_run_in_the_same_directory_is_refused(tmp_path, capsys):
    source = write(tmp_path / "rows.jsonl", ROWS)
    _, output = curate(tmp_path, "--source", source)
    before = digest(output)
    assert curate(tmp_path, "--source", source, "--min-chars", "20")[0] == 2
    assert "holds a run with other limits" in capsys.readouterr().err
    write(source, ROWS[:-1])
    assert curate(tmp_path, "--source", source)[0] == 2
    assert "holds a run with other inputs" in capsys.readouterr().err
    assert digest(output) == before


@pytest.mark.parametrize("content", ["", '{"settings', "[]", '{"settings": 1}'])
def test_damaged_manifest_is_one_sentence(content, tmp_path, capsys):
    source = write(tmp_path / "rows.jsonl", ROWS)
    _, output = curate(tmp_path, "--source", source)
    (output / "curate.json").write_text(content)
    assert curate(tmp_path, "--source", source)[0] == 2
    assert "curate.json is damaged" in capsys.readouterr().err


def test_curated_set_is_valid_as_source_and_reference(tmp_path):
    _, first = curate(tmp_path, "--source", write(tmp_path / "rows.jsonl", ROWS[:10]))
    more = write(tmp_path / "more.jsonl", ROWS)
    code, output = curate(tmp_path, "--source", more, "--against", f"first={first}", name="second")
    assert code == 0 and [row["row"] for row in rows_of(output)] == list(range(11, 21))
    code, output = curate(tmp_path, "--source", f"first={first}", name="third")
    assert code == 0 and len(rows_of(output)) == 10


def own_reader(row: dict):
    from openrlhf_math.data.schema import Row

    return Row(problem=row["frage"], answer=row["antwort"])


def test_custom_reader(tmp_path):
    source = write(tmp_path / "rows.jsonl", [{"frage": row["problem"], "antwort": row["answer"]} for row in ROWS])
    code, output = curate(tmp_path, "--source", f"{__name__}.own_reader={source}")
    assert code == 0 and [row["answer"] for row in rows_of(output)] == [row["answer"] for row in ROWS]


def own_filter(row) -> str:
    return "it has 7 boxes" if 7 / (int(row.answer) - 24) and " 7 " in row.problem else ""


def test_custom_filter_and_a_failing_row(tmp_path):
    source = write(tmp_path / "rows.jsonl", ROWS)
    code, output = curate(tmp_path, "--source", source, "--filters", f"gold,{__name__}.own_filter")
    assert code == 0 and [row["row"] for row in rows_of(output)] == [2, 3, 4, *range(6, 21)]
    assert "own_filter failed (ZeroDivisionError" in report(output, "rejects")[0]["reason"]


@pytest.mark.parametrize("name", [name for name, source in SOURCES.items() if source.columns])
def test_values_of_any_type_affect_no_other_row(name, tmp_path):
    """Each column of each known source holds, in turn, what it must not hold."""
    odd = [None, 7, 7.5, True, [], {}, [7], [None], [{}], {"a": []}, "", "x", [["x"]], [{"from": 7, "value": 7}]]
    rows = [
        dict.fromkeys(SOURCES[name].columns, "x") | {column: value} for column in SOURCES[name].columns for value in odd
    ]
    code, output = curate(tmp_path, "--source", f"{name}={write(tmp_path / 'rows.jsonl', rows)}")
    assert code in (0, 2)
    counts = json.loads((output / "reports/counts.json").read_text())
    assert counts["rows"] == len(rows) and counts["rejected"] == len(report(output, "rejects"))


def test_json(tmp_path, capsys):
    source = write(tmp_path / "rows.jsonl", ROWS)
    assert curate(tmp_path, "--source", source, "--json")[0] == 0
    result = json.loads(capsys.readouterr().out)
    assert result["written"] == 20 and result["seconds"]["normalise"] > 0


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--source", "missing.jsonl"], "--source missing.jsonl: there is no such file"),
        (["--source", "{folder}/notes.txt"], "of no known format"),
        (["--source", "{folder}/empty"], "there is no file of a known format in it"),
        (
            ["--source", "{rows}", "--problem-key", "text"],
            "no column 'text', only problem, answer",
        ),
        (["--source", "{odd}"], "name it with --problem-key"),
        (["--source", "{rows}", "--against", "missing.jsonl"], "--against missing.jsonl: there is no such file"),
        (["--source", "{rows}", "--benchmark", "missing.jsonl"], "--benchmark missing.jsonl: there is no such file"),
        (["--source", "{rows}", "--filters", "prooof"], "--filters prooof: there is none of that name"),
        (["--source", "{rows}", "--min-chars", "9000"], "--min-chars 9000"),
        (["--source", "{rows}", "--ngram", "2"], "--ngram is 2"),
        (["--source", "{rows}", "--licence", "mit"], "--licence is 'mit'"),
        (["--source", "{rows}", "--workers", "-1"], "--workers is -1"),
        (["--source", "no.such.reader={rows}"], "--source no.such.reader: cannot be imported"),
    ],
)
def test_bad_input_is_refused_and_writes_nothing(arguments, message, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    rows = write(tmp_path / "rows.jsonl", ROWS)
    odd = write(tmp_path / "odd.jsonl", [{"a": 1, "b": 2}])
    arguments = [argument.format(folder=tmp_path, rows=rows, odd=odd) for argument in arguments]
    assert main(["curate", "--workers", "0", "--output", str(tmp_path / "out"), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_empty_result_is_reported_with_reasons(tmp_path, capsys):
    source = write(tmp_path / "rows.jsonl", [{"problem": "Prove that 2 is prime.", "answer": "proof"}])
    code, output = curate(tmp_path, "--source", source)
    assert code == 2
    assert "no row of 1 is left (filter: proof: 1)" in capsys.readouterr().err
    assert len(report(output, "filtered")) == 1


def test_foreign_directory_is_left_unchanged(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.tex").write_text("x")
    code, output = curate(tmp_path, "--source", write(tmp_path / "rows.jsonl", ROWS))
    assert code == 2 and "holds other files" in capsys.readouterr().err
    assert [path.name for path in output.iterdir()] == ["thesis.tex"]


def test_command_on_the_card_makes_the_same_dataset(tmp_path):
    benchmark = write(tmp_path / "held-out.jsonl", [{"Q": ROWS[3]["problem"]}])
    rows = [{"Q": row["problem"], "A": row["answer"]} for row in ROWS]
    source = write(tmp_path / "some rows.jsonl", rows)
    flags = ["--source", source, "--benchmark", f"b={benchmark}", "--problem-key", "Q", "--answer-key", "A"]
    flags += [
        "--filters",
        "gold,length",
        "--max-chars",
        "500",
        "--language",
        "any",
        "--ngram",
        "12",
        "--ngram-share",
        "0.7",
    ]
    flags += ["--drop-other-numbers", "--keep-duplicates", "--licence", "x=mit"]
    _, output = curate(tmp_path, *flags)
    command = re.search(r"^openrlhf-math (curate .*) --output DIRECTORY$", (output / "README.md").read_text(), re.M)[1]
    assert main([*shlex.split(command), "--output", str(tmp_path / "again"), "--workers", "0"]) == 0
    assert digest(tmp_path / "again") == digest(output)


@pytest.mark.parametrize("name", ["sums.jsonl", "sums.jsonl.gz", "sums.v2.jsonl"])
def test_source_has_the_name_of_its_file(name, tmp_path):
    assert inputs._stem(str(tmp_path / name)) == name.split(".jsonl")[0]
