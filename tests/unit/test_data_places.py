"""Folders, splits and column flags: the same for every command."""

import gzip
import json
import os

import pytest

from openrlhf_math.cli import main
from openrlhf_math.data.columns import Columns, turns_of
from openrlhf_math.data.problems import read_problems, read_rows, read_set
from openrlhf_math.data.schema import BrokenRow
from openrlhf_math.data.tables import is_lines
from openrlhf_math.distill.questions import Columns as Asked
from openrlhf_math.distill.questions import read_tasks
from openrlhf_math.errors import UserError
from openrlhf_math.evaluation import problem_sets

STORY = "Tom has {} red boxes and buys {} more blue boxes at the market. How many boxes does he have?"


def rows(start, stop):
    return [{"problem": STORY.format(n, 7 * n), "answer": str(8 * n)} for n in range(start, stop)]


def write(path, some, text=json.dumps):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = "".join(text(one) + "\n" for one in some).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def curate(place, tmp_path, *flags):
    pq = pytest.importorskip("pyarrow.parquet")
    output = tmp_path / f"curated{len(list(tmp_path.glob('curated*')))}"
    code = main(["curate", "--source", str(place), "--filters", "", "--output", str(output), "--workers", "0", *flags])
    if code:
        raise UserError(str(code))
    found = [row for one in sorted((output / "data").iterdir()) for row in pq.read_table(one).to_pylist()]
    return [row["answer"] for row in found]


def grpo(place, tmp_path):
    return [one.answer for one in read_problems(str(place), "problem", "answer", "train")]


def distill(place, tmp_path):
    return [one.problem.answer for one in read_tasks(str(place), "train", Asked(), {}, None).asked]


def evaluate(place, tmp_path):
    reading = problem_sets.Reading(split="train")
    return [one.problem.answer for one in problem_sets.read_set(str(place), reading).questions]


COMMANDS = pytest.mark.parametrize("read", [curate, grpo, distill, evaluate])
SHARDS = [
    ("train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl", "test-00000-of-00001.jsonl"),
    ("data/train/0.jsonl", "data/train/1.jsonl.gz", "data/test/0.jsonl"),
    ("train/0.json", "train/1.jsonl", "validation.jsonl"), ("gsm8k_train_0.jsonl", "gsm8k_train_1.csv", "eval.jsonl"),
]  # fmt: skip


def as_csv(folder, name, some):
    lines = ["problem,answer", *(f'"{one["problem"]}",{one["answer"]}' for one in some)]
    (folder / name).write_text("\n".join(lines))


@COMMANDS
@pytest.mark.parametrize("names", SHARDS)
def test_folder_gives_the_requested_split(names, read, tmp_path):
    folder = tmp_path / "shards"
    for number, name in enumerate(names):
        some = rows(3 * number + 1, 3 * number + 4)
        if name.endswith(".csv"):
            as_csv(folder, name, some)
        elif name.endswith(".json"):
            write(folder / name, [some])
        else:
            write(folder / name, some)
    assert read(folder, tmp_path) == [str(8 * n) for n in range(1, 7)]
    other = "test" if "test" in names[2] else "validation" if "validation" in names[2] else "eval"
    assert read(f"{folder}:{other}", tmp_path) == [str(8 * n) for n in range(7, 10)]


@COMMANDS
def test_missing_split_is_refused(read, tmp_path, capsys):
    folder = tmp_path / "shards"
    for name in ("test-0.jsonl", "validation-0.jsonl"):
        write(folder / name, rows(1, 4))
    with pytest.raises(UserError) as caught:
        read(folder, tmp_path)
    said = capsys.readouterr().err if str(caught.value) == "2" else str(caught.value)
    assert "test, validation" in said.strip().splitlines()[-1] and "Traceback" not in said
    (folder / "more.jsonl").write_text("{}")
    with pytest.raises(UserError):
        read(f"{folder}:test", tmp_path)


def test_shards_without_a_split_are_all_read(tmp_path):
    write(tmp_path / "set/a.jsonl", rows(1, 3))
    write(tmp_path / "set/b.jsonl", rows(3, 5))
    write(tmp_path / "set/latest.jsonl", rows(5, 7))  # "test" within a word is none
    assert len(list(read_rows(str(tmp_path / "set"), "test"))) == 6


def test_data_card_lists_the_files_of_a_split(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    write(tmp_path / "set/first.jsonl", rows(1, 3))
    write(tmp_path / "set/second.jsonl", rows(3, 5))
    card = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: second.jsonl\n---\n"
    (tmp_path / "set/README.md").write_text(card)
    assert [row["answer"] for row in read_rows(str(tmp_path / "set"), "train")] == ["24", "32"]
    with pytest.raises(UserError, match="no split 'test', only train"):
        list(read_rows(str(tmp_path / "set"), "test"))


def test_saved_dataset_is_a_folder(tmp_path):
    datasets = pytest.importorskip("datasets")
    train, test = datasets.Dataset.from_list(rows(1, 6)), datasets.Dataset.from_list(rows(6, 9))
    train.save_to_disk(tmp_path / "one")
    datasets.DatasetDict(train=train, test=test).save_to_disk(tmp_path / "both")
    write(tmp_path / "one/cache-1.arrow", [{"not": "of it"}])
    assert [row["answer"] for row in read_rows(str(tmp_path / "one"), "train")] == [str(8 * n) for n in range(1, 6)]
    for split, numbers in (("train", range(1, 6)), ("test", range(6, 9))):
        assert [row["answer"] for row in read_rows(str(tmp_path / "both"), split)] == [str(8 * n) for n in numbers]


NESTED = [
    {"meta": {"q": one["problem"]}, "marks": json.dumps({"golds": [one["answer"], "0"]}), "problem": "the wrong one"}
    for one in rows(1, 4)
]
FLAGS = ["--problem-key", "meta.q", "--answer-key", "marks.golds.0"]


def test_fields_within_columns_by_every_commands_flags(tmp_path, monkeypatch):
    path = write(tmp_path / "nested.jsonl", NESTED)
    golds = ["8", "16", "24"]
    assert curate(path, tmp_path, *FLAGS) == golds
    assert [one.answer for one in read_problems(str(path), "meta.q", "marks.golds.0")] == golds
    tasks = read_tasks(str(path), "train", Asked("meta.q", "marks.golds.0"), {}, None)
    assert [one.problem.problem for one in tasks.asked] == [one["meta"]["q"] for one in NESTED]
    reading = problem_sets.Reading(columns=Columns("meta.q", "marks.golds.0"))
    assert [one.problem.answer for one in problem_sets.read_set(str(path), reading).questions] == golds


@pytest.mark.parametrize("keys", [("meta.x", "answer"), ("problem", "marks.golds.7")])
def test_missing_field_is_named(keys, tmp_path):
    path = write(tmp_path / "nested.jsonl", NESTED)
    missing = next(key for key in keys if "." in key)
    with pytest.raises(UserError, match=f"no column '{missing}', only meta.q, marks.golds, problem"):
        read_problems(str(path), *keys)


def test_messages_before_a_problem_are_kept(tmp_path):
    turns = [
        {"role": "system", "content": "Be short."}, {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": "2"}, {"role": "user", "content": "2+2?"},
    ]  # fmt: skip
    made = [{"prompt": turns, "label": "4"}, {"prompt": json.dumps(turns), "label": 4.0}]
    path = write(tmp_path / "chats.jsonl", made)
    for one in read_problems(str(path), "problem", "answer"):
        assert (one.problem, one.text, one.answer) == (turns, "2+2?", "4")
    assert [row.problem for _, _, row in read_set(str(path), "train", Columns())] == ["2+2?"] * 2


def test_conversation_with_two_questions_is_refused(tmp_path):
    two = [{"from": "human", "value": "1+1?"}, {"from": "gpt", "value": "2"}, {"from": "human", "value": "2+2?"}]
    path = write(tmp_path / "two.jsonl", [{"conversations": two}])
    with pytest.raises(UserError, match="row 1: "):
        read_problems(str(path), "problem", "answer")


@pytest.mark.parametrize("suffix", [".csv", ".json", ".jsonl.gz", ".tsv"])
def test_curate_reads_every_format_and_names_rows(suffix, tmp_path):
    """Also those that are not cut into pieces; a broken row is set aside with its number."""
    pq = pytest.importorskip("pyarrow.parquet")
    some, path = rows(1, 26), tmp_path / f"rows{suffix}"
    if suffix == ".jsonl.gz":
        lines = [json.dumps(one) for one in some[:10]] + ["{"] + [json.dumps(one) for one in some[10:]]
        path.write_bytes(gzip.compress("\n".join(lines).encode()))
    elif suffix == ".json":
        path.write_text(json.dumps([*some[:10], 7, *some[10:]]))
    else:
        mark = "," if suffix == ".csv" else "\t"
        lines = [mark.join([f'"{one["problem"]}"', one["answer"]]) for one in some]
        path.write_text("\ufeff" + "\n".join([f"problem{mark}answer", *lines[:10], f"a{mark}b{mark}c", *lines[10:]]))
    assert curate(path, tmp_path, "--keep-duplicates") == [one["answer"] for one in some]
    rejects = (tmp_path / "curated0/reports/rejects.jsonl").read_text().splitlines()
    assert [json.loads(one)["row"] for one in rejects] == [11]
    (written,) = (tmp_path / "curated0/data").iterdir()
    assert pq.read_table(written)["row"].to_pylist() == [*range(1, 11), *range(12, 27)]


def test_truncated_archive_is_refused(tmp_path, capsys):
    path = write(tmp_path / "rows.jsonl.gz", rows(1, 2000))
    path.write_bytes(path.read_bytes()[:-100])
    assert main(["curate", "--source", str(path), "--output", str(tmp_path / "out"), "--workers", "0"]) == 2
    error = capsys.readouterr().err
    assert str(path) in error.strip().splitlines()[-1] and not (tmp_path / "out").exists()


def test_utf_16_is_refused_by_every_command(tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(rows(1, 2)[0]), encoding="utf-16")
    for read in (curate, grpo, distill, evaluate):
        with pytest.raises(UserError):
            read(path, tmp_path)
    assert "UTF-16" in capsys.readouterr().err


def test_only_plain_jsonl_is_split(tmp_path):
    path = tmp_path / "rows.json"
    for text, lines in (('[{"a": 1}]', False), ('{"a": 1}\n', True), (' \n[\n{"a": 1}]', False), ("", True)):
        path.write_text(text)
        assert is_lines(str(path), str(path)) == lines


def test_broken_row_is_named_by_its_file_and_line(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    write(folder / "train-0.jsonl", [{"problem": "1+1?", "answer": "2"}] * 3)
    (folder / "train-1.jsonl").write_text('{"problem": "2+2?", "answer": "4"}\n\n{"problem": "", "answer": "4"}\n')
    with pytest.raises(UserError, match=r"train-1.jsonl, line 3: there is no problem"):
        read_problems(str(folder), None, None)


def usual(path):
    """The problems of a file by the usual names of the columns."""
    return read_problems(str(path), None, None)


def test_problem_column_wins_over_question(tmp_path):
    rows = [{"problem": "What is 1+1?", "question": "another", "answer": "2"}]
    assert [one.problem for one in usual(write(tmp_path / "rows.jsonl", rows))] == ["What is 1+1?"]


def test_ground_truth_is_an_answer(tmp_path):
    rows = [{"prompt": [{"role": "user", "content": "What is 1+1?"}], "ground_truth": "2"}]
    assert [one.answer for one in usual(write(tmp_path / "rows.jsonl", rows))] == ["2"]


@pytest.mark.parametrize("field", ["data", "train"])
def test_rows_within_an_object_are_named(field, tmp_path):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({"version": 1, field: [{"problem": "What is 1+1?", "answer": "2"}]}))
    with pytest.raises(UserError, match=f"field '{field}'"):
        usual(path)


def test_lists_that_are_not_rows_are_columns(tmp_path):
    path = write(tmp_path / "rows.jsonl", [{"steps": [{"text": "1+1"}], "tags": ["sum"], "q": "What is 1+1?"}])
    with pytest.raises(UserError, match="no column of the problem, only steps, tags, q"):
        usual(path)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("rows.csv", "problem;answer\nWhat is 1+1?;2\n", "semicolons"),
        ("rows.csv", "problem\tanswer\nWhat is 1+1?\t2\n", "tabs"),
        ("rows.tsv", "problem,answer\nWhat is 1+1?,2\n", "commas"),
    ],
)
def test_another_separator_is_named(name, text, expected, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=f"has {expected} between"):
        usual(tmp_path / name)


@pytest.mark.parametrize(
    ("names", "whole"),
    [
        (["train-00000-of-00003", "train-00002-of-00003"], False),
        (["train-00000-of-00003", "train-00001-of-00003"], False),
        (["train-00000-of-00002", "train-00001-of-00002"], True),
        (["data/part_1_of_2", "data/part_2_of_2"], True),
        (["train-00000-of-00001", "test-00000-of-00002"], True),  # of the test split nothing is read
        (["a-00000-of-00001", "b-00000-of-00002"], False),
        (["1-of-a-kind"], True),
    ],
)
def test_folder_with_a_missing_shard(names, whole, tmp_path):
    for number, name in enumerate(names):
        write(tmp_path / f"set/{name}.jsonl", rows(number + 1, number + 2))
    if whole:
        assert list(read_rows(str(tmp_path / "set"), "train"))
    else:
        with pytest.raises(UserError, match=r"of the \d files"):
            list(read_rows(str(tmp_path / "set"), "train"))


def test_link_next_to_its_target_is_refused(tmp_path):
    write(tmp_path / "set/a.jsonl", rows(1, 2))
    os.symlink("a.jsonl", tmp_path / "set/b.jsonl")
    with pytest.raises(UserError, match="a.jsonl.*b.jsonl"):
        list(read_rows(str(tmp_path / "set"), "train"))
    os.unlink(tmp_path / "set/b.jsonl")
    os.link(tmp_path / "set/a.jsonl", tmp_path / "set/c.jsonl")
    with pytest.raises(UserError, match="a.jsonl.*c.jsonl"):
        list(read_rows(str(tmp_path / "set"), "train"))


def test_linked_folder_is_read_and_link_cycles_are_read_once(tmp_path):
    write(tmp_path / "elsewhere/b.jsonl", rows(3, 4))
    write(tmp_path / "set/a.jsonl", rows(1, 2))
    alone = len(list(read_rows(str(tmp_path / "set"), "train")))
    os.symlink("../elsewhere", tmp_path / "set/more")
    os.symlink(".", tmp_path / "set/again")
    assert len(list(read_rows(str(tmp_path / "set"), "train"))) == 2 * alone


@pytest.mark.parametrize("target", ["nowhere", "set"])
def test_dangling_link_is_not_searched_on_the_hub(target, tmp_path, monkeypatch):
    """The second is a link to itself."""
    monkeypatch.chdir(tmp_path)
    os.symlink(target, "set")
    monkeypatch.setattr("openrlhf_math.data.places._listed", lambda *asked: pytest.fail("the hub was asked"))
    with pytest.raises(UserError):
        list(read_rows("set", "train"))


def test_utf_32_is_refused_by_name(tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps(rows(1, 2)[0]), encoding="utf-32")
    with pytest.raises(UserError, match="UTF-32"):
        list(read_rows(str(tmp_path / "rows.jsonl"), "train"))


def test_content_in_parts_is_named_as_the_reason():
    asked = [{"role": "user", "content": [{"type": "text", "text": "1+1?"}]}]
    with pytest.raises(BrokenRow, match="parts"):
        turns_of(asked)
