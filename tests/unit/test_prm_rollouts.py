"""Monte-Carlo step labels: what is asked, what the answers are worth, and what a killed run keeps."""

import json

import pytest

from openrlhf_math.errors import UserError
from openrlhf_math.prm.rollouts import label_by_rollouts, label_of, prefixes
from openrlhf_math.prm.rows import Rejected
from openrlhf_math.prm.sources import LabelSettings, RolloutSettings
from openrlhf_math.rerank.roles import Completion, RequestError
from openrlhf_math.rerank.steps import split_steps

PREFIXES = {
    "lines": ("a\nb\nc", "\n", ["a\n", "a\nb\n", "a\nb\nc"]),
    "blank lines": ("a\n\nb b\n\n\nc\n", "\n\n", ["a\n\n", "a\n\nb b\n\n\n", "a\n\nb b\n\n\nc\n"]),
    "a thinking part that the model may continue": (
        "<think>\na\nb\n</think>\n\nc",
        "\n",
        ["<think>\na\n", "<think>\na\nb\n", "<think>\na\nb\n</think>\n\nc"],
    ),
    "a step that is in the tag before it": ("<think>think\nt", "\n", ["<think>think\n", "<think>think\nt"]),
    "another separator": ("a## b ##c", "##", ["a", "a## b ", "a## b ##c"]),
    "one step": ("a", "\n", ["a"]),
}


@pytest.mark.parametrize("name", PREFIXES)
def test_prefix_ends_after_its_step(name):
    response, separator, expected = PREFIXES[name]
    assert prefixes(response, split_steps(response, separator), separator) == expected


@pytest.mark.parametrize(
    "reached, soft, hard",
    [
        ([True, False, False, False], 0.25, 1.0),
        ([False, False], 0.0, 0.0),
        ([True, None, False], 0.5, 1.0),
        ([None, None], None, None),
    ],
)
def test_label_is_the_success_rate_or_any_success(reached, soft, hard):
    assert label_of(reached, hard=False) == soft
    assert label_of(reached, hard=True) == hard


class Sampler:
    """Goes on from `good` to the answer 4 at every second seed, and to 5 from all else."""

    def __init__(self, dies_after: int | None = None) -> None:
        self.asked: list[tuple[str, int]] = []
        self.dies_after = dies_after

    async def complete(self, messages, sampling) -> Completion:
        if len(self.asked) == self.dies_after:
            raise KeyboardInterrupt
        self.asked.append((sampling.prefix, sampling.seed))
        if "long" in sampling.prefix:
            raise RequestError("no room is left for an answer")
        answer = 4 if "good" in sampling.prefix and sampling.seed % 2 else 5
        return Completion(f"so \\boxed{{{answer}}}", 3, "eos")

    def shutdown(self) -> None:
        pass


def settings(tmp_path, rows: list[dict], **more) -> LabelSettings:
    file = tmp_path / "attempts.jsonl"
    file.write_text("".join(json.dumps({"problem": "2+2?", "gold": "4"} | row) + "\n" for row in rows))
    output = tmp_path / "labels"
    output.mkdir(exist_ok=True)
    rollouts = RolloutSettings("model", "cpu", **{"completions": 16, "concurrency": 4} | more)
    return LabelSettings("monte-carlo", (str(file),), output, "\n", rollouts=rollouts)


def label(chosen: LabelSettings, sampler: Sampler) -> list:
    return list(label_by_rollouts(chosen, lambda done, total: None, lambda _: sampler))


ROWS = [
    {"response": "good\nthen\n\\boxed{4}"},
    {"responses": ["good\nthen\n\\boxed{5}", "bad\nthen", "good\nthen\n\\boxed{4}"]},
]


def test_every_step_is_continued_and_complete_solutions_are_graded(tmp_path):
    sampler = Sampler()
    first, second, third, fourth = label(settings(tmp_path, ROWS), sampler)
    assert 0 < first.labels[0] < 1 and first.labels[2] == 1.0
    assert second.labels == [*first.labels[:2], 0.0]
    assert third.labels == [0.0, 0.0]
    assert fourth == first


def test_shared_prefixes_are_sampled_once_with_distinct_seeds(tmp_path):
    sampler = Sampler()
    label(settings(tmp_path, ROWS), sampler)
    assert len(sampler.asked) == len(set(sampler.asked)) == 4 * 16
    assert {prefix for prefix, _ in sampler.asked} == {"good\n", "good\nthen\n", "bad\n", "bad\nthen"}


def test_killed_run_requests_only_missing_rollouts(tmp_path):
    whole, first, second = Sampler(), Sampler(dies_after=23), Sampler()
    expected = label(settings(tmp_path, ROWS), whole)
    (tmp_path / "labels" / "journal.jsonl").unlink()
    with pytest.raises(KeyboardInterrupt):
        label(settings(tmp_path, ROWS), first)
    assert label(settings(tmp_path, ROWS), second) == expected
    assert len(second.asked) < 4 * 16
    assert set(whole.asked) == {*first.asked, *second.asked}
    assert label(settings(tmp_path, ROWS), Sampler(dies_after=0)) == expected


def test_prefix_without_room_skips_its_attempts(tmp_path):
    rows = [*ROWS, {"response": "long\nthen"}, {"response": None}]
    *labelled, long, empty = label(settings(tmp_path, rows), Sampler())
    assert len(labelled) == 4
    assert isinstance(long, Rejected) and long.place.endswith("line 3") and "no room" in long.reason
    assert isinstance(empty, Rejected) and empty.place.endswith("line 4")


def test_resuming_allows_only_a_change_of_label_type(tmp_path):
    soft = label(settings(tmp_path, ROWS), Sampler())
    hard = label(settings(tmp_path, ROWS, hard=True, concurrency=1), Sampler(dies_after=0))
    assert [[float(value > 0) for value in each.labels] for each in soft] == [each.labels for each in hard]
    with pytest.raises(UserError, match="other settings .--temperature was 0.7, is 1.0"):
        label(settings(tmp_path, ROWS, temperature=1.0), Sampler())


@pytest.mark.parametrize(
    "more, sentence",
    [
        ({"completions": 0}, "--completions 0: give 1 or more"),
        ({"temperature": 0.0}, "completions must differ"),
        ({"top_p": 0.0}, "--top-p 0.0"),
        ({"max_context": 0}, "--max-context 0"),
    ],
)
def test_invalid_values_are_refused(tmp_path, more, sentence):
    with pytest.raises(ValueError, match=sentence):
        settings(tmp_path, ROWS, **more)
