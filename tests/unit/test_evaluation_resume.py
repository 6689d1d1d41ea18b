"""What a killed evaluation resumes from, and what it refuses to mix."""

from dataclasses import replace

import pytest

from openrlhf_math.data.problems import Problem
from openrlhf_math.errors import UserError
from openrlhf_math.evaluation.benchmarks import Sampling
from openrlhf_math.evaluation.problem_sets import ProblemSet, Question
from openrlhf_math.evaluation.results import journal_of, record_of
from openrlhf_math.evaluation.sampler import Request, context_needed, fitted, seed_of
from openrlhf_math.evaluation.settings import EvalSettings, fingerprint
from openrlhf_math.rerank.confidence import Confidence
from openrlhf_math.rerank.roles import Completion
from openrlhf_math.rewards import RewardConfig
from openrlhf_math.tools.attempt import ToolUse

SETS = [ProblemSet("sums", [Question(Problem("1+1?", "2", "sums", 1))], Sampling(2, 64, 0.6))]


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(bytes(3_000_000))
    return folder


@pytest.fixture
def settings(tmp_path, model):
    return EvalSettings(
        model=str(model),
        output=tmp_path / "out",
        seed=0,
        prompt="chat",
        instruction="",
        device="cpu",
        tensor_parallel=1,
        max_context=None,
        parquet=False,
        rewards=RewardConfig(),
    )


def sampled(**changes):
    return [replace(SETS[0], sampling=replace(SETS[0].sampling, **changes))]


CHANGES = [
    ("--seed was 0, is 1", {"seed": 1}, SETS),
    ("--prompt was 'chat', is 'plain'", {"prompt": "plain"}, SETS),
    ("--instruction was '', is 'Think.'", {"instruction": "Think."}, SETS),
    ("--model was ", {"model": "other/model"}, SETS),
    ("--samples was 2, is 4", {}, sampled(samples=4)),
    ("--max-tokens was 64, is 128", {}, sampled(max_tokens=128)),
    ("--temperature was 0.6, is 1.0", {}, sampled(temperature=1.0)),
    ("--top-p was 1.0, is 0.9", {}, sampled(top_p=0.9)),
    ("other problems than --benchmark sums has now", {}, [replace(SETS[0], questions=SETS[0].questions * 2)]),
    ("--benchmark was ", {}, [*SETS, replace(SETS[0], name="more")]),
]


@pytest.mark.parametrize("sentence, changes, sets", CHANGES, ids=[sentence for sentence, _, _ in CHANGES])
def test_completions_of_other_settings_are_refused_by_flag(settings, sentence, changes, sets):
    journal = journal_of(SETS, settings)
    journal.append("sums 0", 0, {"text": "x", "tokens": 1, "truncated": False})
    journal.close()
    with pytest.raises(UserError, match=sentence):
        journal_of(sets, replace(settings, **changes))
    journal = journal_of(SETS, settings)  # the refusal has left it as it was, and open to others
    assert ("sums 0", 0) in journal
    journal.close()


LEFT_OUT = {
    "--engine-args": {"engine_args": {"dtype": "float32"}},
    "--chat-template-kwargs": {"drawn": {"chat_template_kwargs": {"enable_thinking": False}}},
}


@pytest.mark.parametrize(("flag", "given"), LEFT_OUT.items(), ids=LEFT_OUT)
def test_flag_omitted_on_resume_is_refused(settings, flag, given):
    journal_of(SETS, replace(settings, **given)).close()
    with pytest.raises(UserError, match=f"{flag} was "):
        journal_of(SETS, settings)


def test_grading_settings_may_change_on_resume(settings):
    journal_of(SETS, settings).close()
    changed = replace(settings, rewards=RewardConfig(style="think"), parquet=True, max_context=500)
    journal_of(SETS, changed).close()


def test_further_trained_model_is_a_different_model(settings, model):
    journal_of(SETS, settings).close()
    weights = bytearray(3_000_000)
    weights[10_000] = 1
    (model / "model.safetensors").write_bytes(weights)
    with pytest.raises(UserError, match="--model .* before its files changed"):
        journal_of(SETS, settings)


def test_model_copy_has_the_same_fingerprint(model, tmp_path):
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes())
    assert fingerprint(model) == fingerprint(tmp_path / "copy") != fingerprint(tmp_path) == ""


@pytest.mark.parametrize("text", ["{", "[]", '{"architectures": ["Qwen2ForCausalLM"]}'])
def test_foreign_directory_is_left_unchanged(settings, text):
    settings.output.mkdir()
    (settings.output / "config.json").write_text(text)
    with pytest.raises(UserError):
        journal_of(SETS, settings)
    assert [path.name for path in settings.output.iterdir()] == ["config.json"]


def test_leftovers_of_a_kill_are_removed(settings):
    journal_of(SETS, settings).close()
    for name in (".completions.jsonl.x7", ".summary.json.x7", ".mine"):
        (settings.output / name).write_text("half")
    journal_of(SETS, settings).close()
    assert sorted(path.name for path in settings.output.glob(".*")) == [".mine"]


def test_two_runs_do_not_share_a_directory(settings):
    journal = journal_of(SETS, settings)
    with pytest.raises(UserError, match="another process writes there"):
        journal_of(SETS, settings)
    journal.close()


def test_every_completion_has_an_independent_seed():
    seeds = [seed_of(0, Request(problem, sample, [])) for problem in range(50) for sample in range(50)]
    assert len(set(seeds)) == 2500 and all(0 <= seed < 2**31 for seed in seeds)
    assert seeds[51] == seed_of(0, Request(1, 1, [7, 8, 9])) != seed_of(1, Request(1, 1, []))


@pytest.fixture
def limited(settings, model):
    (model / "config.json").write_text('{"model_type": "qwen2", "max_position_embeddings": 100}')
    return settings


@pytest.mark.parametrize(
    "prompts, max_context, answer",
    [
        ({"a": ([[1] * 10, [1] * 20], 60), "b": ([[1] * 30], 50)}, None, 80),
        ({"a": ([[1] * 20], 60)}, 90, 90),
        (
            {"a": ([[1] * 20], 60), "b": ([[1] * 50], 51)},
            None,
            "b: the longest prompt \\(50 tokens\\) and --max-",
        ),
        ({"a": ([[1] * 20], 60)}, 70, "--max-context is 70; lower --max-tokens to 50 or less"),
    ],
)
def test_context_holds_the_longest_prompt_with_its_completion(limited, prompts, max_context, answer):
    asked = replace(limited, max_context=max_context)
    if isinstance(answer, int):
        assert context_needed(prompts, asked) == answer
    else:
        with pytest.raises(UserError, match=answer):
            context_needed(prompts, asked)


@pytest.mark.parametrize(
    "asked, max_context, most",
    [(Sampling(max_tokens=70), None, 70), (Sampling(), None, 70), (Sampling(), 50, 20), (Sampling(), 200, 70)],
)
def test_without_a_limit_a_completion_may_fill_the_context(limited, asked, max_context, most):
    prompts = [[1] * 10, [1] * 30]
    assert fitted(asked, prompts, replace(limited, max_context=max_context)).max_tokens == most


def test_long_context_does_not_give_endless_completions(settings, model):
    (model / "config.json").write_text('{"model_type": "qwen2", "max_position_embeddings": 131072}')
    assert fitted(Sampling(), [[1] * 30], settings).max_tokens == 32768


def test_prompt_that_fills_the_context_is_refused(limited):
    with pytest.raises(UserError, match="100 tokens, the model's context is 100"):
        fitted(Sampling(), [[1] * 100], limited)


def test_journal_keeps_completions_as_former_versions_did():
    names = ("mean", "tail", "lowest", "bottom", "logprob", "tail_logprob", "lowest_logprob", "entropy")
    sure = Confidence(*(float(number) for number in range(len(names))))
    assert record_of(Completion("x", 3, "length", ToolUse(2, 1, 0.12345, 7), sure)) == {
        "text": "x",
        "tokens": 3,
        "truncated": True,
        "tool": {"tool_calls": 2, "tool_failed": 1, "tool_seconds": 0.123},
        "confidence": {name: float(number) for number, name in enumerate(names)},
    }
    plain = {"text": "x", "tokens": 3, "truncated": False, "tool": None, "confidence": None}
    assert record_of(Completion("x", 3, "eos")) == record_of(Completion("x", 3, "stop")) == plain
