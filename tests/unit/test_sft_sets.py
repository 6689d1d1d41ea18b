"""SET[:WEIGHT][@COLUMNS]: what a fine-tuning's flag names."""

from types import SimpleNamespace

import pytest

from openrlhf_math.errors import UserError
from openrlhf_math.sft.rows import Source, apply_weights, read_sources

USUAL = (None, None)


@pytest.mark.parametrize(
    ("spec", "name", "weight", "columns"),
    [
        ("rows.jsonl", "rows.jsonl", None, USUAL),
        ("rows.jsonl:0.5", "rows.jsonl", 0.5, USUAL),
        ("rows.jsonl@messages", "rows.jsonl", None, ("messages", None)),
        ("rows.jsonl:2@q+a", "rows.jsonl", 2.0, ("q", "a")),
        ("rows.jsonl.gz:2@extra.q+a", "rows.jsonl.gz", 2.0, ("extra.q", "a")),
        ("./folder@messages", "./folder", None, ("messages", None)),
        ("./folder:test:2@messages", "./folder:test", 2.0, ("messages", None)),
        ("open-r1/OpenR1-Math-220k", "open-r1/OpenR1-Math-220k", None, USUAL),
        ("openai/gsm8k@main", "openai/gsm8k@main", None, USUAL),
        ("openai/gsm8k:3@main", "openai/gsm8k@main", 3.0, USUAL),
        ("openai/gsm8k@main:3", "openai/gsm8k@main", 3.0, USUAL),
        ("openai/gsm8k:3@main@question+answer", "openai/gsm8k@main", 3.0, ("question", "answer")),
        ("openai/gsm8k@main@question+answer", "openai/gsm8k@main", None, ("question", "answer")),
        ("openai/gsm8k@main:3@question+answer", "openai/gsm8k@main", 3.0, ("question", "answer")),
    ],
)
def test_set_is_read(spec, name, weight, columns):
    assert read_sources("--data.dataset", f" {spec} ,", USUAL) == [Source(name, weight, columns)]


def test_column_flags_apply_to_sets_without_columns():
    found = read_sources("--data.dataset", "a.jsonl,b.jsonl@messages", ("q", "a"))
    assert [source.columns for source in found] == [("q", "a"), ("messages", None)]


@pytest.mark.parametrize("name", ["odd@name.jsonl", "odd:2"])
def test_file_with_such_a_name_is_a_file(name, tmp_path):
    (tmp_path / name).write_text("")
    assert read_sources("--data.dataset", str(tmp_path / name), USUAL) == [Source(str(tmp_path / name), None, USUAL)]
    assert read_sources("--data.dataset", f"{tmp_path / name}:3@a", USUAL) == [
        Source(str(tmp_path / name), 3.0, ("a", None))
    ]


@pytest.mark.parametrize("spec", ["a.jsonl:0", "a.jsonl:1.2.3", "a.jsonl@q+", "a.jsonl@a+b+c", "a.jsonl@a@b"])
def test_impossible_settings_are_refused(spec):
    with pytest.raises(UserError):
        read_sources("--data.dataset", spec, USUAL)


def weighed(specs: str, probabilities: str | None = None) -> str | None:
    args = SimpleNamespace(data=SimpleNamespace(dataset_probs=probabilities))
    apply_weights(args, read_sources("--data.dataset", specs, USUAL))
    return args.data.dataset_probs


def test_weights_become_openrlhfs_probabilities():
    assert weighed("a.jsonl:1,b.jsonl:3") == "0.25,0.75"
    assert weighed("a.jsonl,b.jsonl", "2,6") == "0.25,0.75"
    assert weighed("a.jsonl,b.jsonl") is None


@pytest.mark.parametrize(
    ("specs", "probabilities"),
    [("a.jsonl:1,b.jsonl", None), ("a.jsonl:1,b.jsonl:1", "0.5,0.5"), ("a.jsonl,b.jsonl", "1"), ("a.jsonl", "nan")],
)
def test_mismatched_weights_are_refused(specs, probabilities):
    with pytest.raises(UserError):
        weighed(specs, probabilities)
