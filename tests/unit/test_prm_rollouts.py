"""Monte-Carlo step labels: what is asked, what the answers are worth, and what a killed run keeps."""

import json

import pytest

from openrlhf_math.errors import UserError
from openrlhf_math.prm.prefixes import label_of, prefixes
from openrlhf_math.prm.rollouts import label_by_rollouts
from openrlhf_math.prm.rows import Rejected
from openrlhf_math.prm.sources import LabelSettings, RolloutSettings
from openrlhf_math.rerank.roles import Completion, RequestError
from openrlhf_math.rerank.steps import split_steps

PREFIXES = {
    "lines": ("a\nb\nc", "\n", ["a\n", "a\nb\n", "a\nb\nc"]),
    "blank lines": ("a\n\nb b\n\n\nc\n", "\n\n", ["a\n\n", "a\n\nb b\n\n\n", "a\n\nb b\n\n\nc\n"]),
    "a thinking part that the model may go on with": (
        "<think>\na\nb\n</think>\n\nc",
        "\n",
        ["<think>\na\n", "<think>\na\nb\n", "<think>\na\nb\n</think>\n\nc"],
    ),
    "a step that is in the tag before it": ("<think>think\nt", "\n", ["<think>think\n", "<think>think\nt"]),
    "another separator": ("a## b ##c", "##", ["a", "a## b ", "a## b ##c"]),
    "one step": ("a", "\n", ["a"]),
}


@pytest.mark.parametrize("name", PREFIXES)
def test_a_prefix_ends_behind_its_step(name):
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
def test_a_label_is_the_share_that_reaches_the_gold_or_whether_one_does(reached, soft, hard):
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


def test_every_step_is_gone_on_from_and_a_solution_with_an_answer_is_graded_as_it_is(tmp_path):
    sampler = Sampler()
    first, second, third, fourth = label(settings(tmp_path, ROWS), sampler)
    assert 0 < first.labels[0] < 1 and first.labels[2] == 1.0
    assert second.labels == [*first.labels[:2], 0.0]
    assert third.labels == [0.0, 0.0]
    assert fourth == first


def test_what_attempts_have_in_common_is_asked_once_and_never_with_the_same_seed(tmp_path):
    sampler = Sampler()
    label(settings(tmp_path, ROWS), sampler)
    assert len(sampler.asked) == len(set(sampler.asked)) == 4 * 16
    assert {prefix for prefix, _ in sampler.asked} == {"good\n", "good\nthen\n", "bad\n", "bad\nthen"}


def test_a_killed_run_asks_only_for_what_it_does_not_have_and_ends_alike(tmp_path):
    whole, first, second = Sampler(), Sampler(dies_after=23), Sampler()
    expected = label(settings(tmp_path, ROWS), whole)
    (tmp_path / "labels" / "journal.jsonl").unlink()
    with pytest.raises(KeyboardInterrupt):
        label(settings(tmp_path, ROWS), first)
    assert label(settings(tmp_path, ROWS), second) == expected
    assert len(second.asked) < 4 * 16
    assert set(whole.asked) == {*first.asked, *second.asked}
    assert label(settings(tmp_path, ROWS), Sampler(dies_after=0)) == expected


def test_a_prefix_that_leaves_no_room_sets_its_attempts_aside(tmp_path):
    rows = [*ROWS, {"response": "long\nthen"}, {"response": None}]
    *labelled, long, empty = label(settings(tmp_path, rows), Sampler())
    assert len(labelled) == 4
    assert isinstance(long, Rejected) and long.place.endswith("line 3") and "no room" in long.reason
    assert isinstance(empty, Rejected) and empty.place.endswith("line 4")


def test_other_settings_are_no_way_to_go_on_but_hard_labels_of_the_same_completions_are(tmp_path):
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
def test_values_that_cannot_work_are_told(tmp_path, more, sentence):
    with pytest.raises(ValueError, match=sentence):
        settings(tmp_path, ROWS, **more)
