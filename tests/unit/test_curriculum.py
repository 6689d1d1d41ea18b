"""Which problems come next: weights from what is known, an order that a seed fixes and a checkpoint continues."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from openrlhf_math.cli import main
from openrlhf_math.errors import UserError
from openrlhf_math.grpo.curriculum import Known, check_curriculum, drawn_order, find_curriculum, staged, uniform, window
from openrlhf_math.grpo.curriculum_settings import CurriculumSettings
from openrlhf_math.grpo.problems.completion_limit import parse_stages, value_at
from openrlhf_math.grpo.problems.difficulty import as_number
from openrlhf_math.grpo.problems.problem_order import CurriculumSampler, PassRates, ProblemOrder, classes_of

NOTHING = np.full(4, np.nan)


def known(step=0, difficulty=(1, 1, 2, 3), pass_rate=(0.5,) * 4, seen=(0,) * 4) -> Known:
    return Known(step, np.array(difficulty, float), np.array(pass_rate, float), np.array(seen))


@pytest.mark.parametrize(
    ("step", "unlocked"), [(0, [1, 1, 0, 0]), (9, [1, 1, 0, 0]), (10, [1, 1, 1, 0]), (500, [1, 1, 1, 1])]
)
def test_staged_unlocks_difficulties_by_step(step, unlocked):
    stages = parse_stages("--s", "0:1,10:2,20:3", float)
    weights = staged(known(step), CurriculumSettings("staged", stages=stages))
    assert (weights > 0).tolist() == unlocked


def test_staged_alternates_classes_without_blocking():
    settings = CurriculumSettings("staged", stages=((0, 3),))
    weights = staged(known(seen=(7, 6, 0, 3)), settings)
    assert weights.tolist() == [1e-6, 1, 1, 1]


@pytest.mark.parametrize(
    ("explore", "weights"),
    [
        (0.0, [0, 1.5, 2, 0.5]),  # p(1-p) = 0, 3/16, 1/4, 1/16 over its mean 1/8
        (1.0, [1, 1, 1, 1]),
        (0.5, [0.5, 1.25, 1.5, 0.75]),
    ],
)
def test_window_weighs_by_the_variance_of_the_reward(explore, weights):
    rates = (1.0, 0.25, 0.5, 0.5 + 0.1875**0.5)
    assert window(known(pass_rate=rates), CurriculumSettings(explore=explore)) == pytest.approx(weights)


def test_window_draws_evenly_where_all_is_solved():
    assert window(known(pass_rate=(1,) * 4), CurriculumSettings(explore=0)).tolist() == [1] * 4


def test_draws_follow_the_weights():
    generator, firsts = np.random.default_rng(0), np.zeros(3)
    for _ in range(3000):
        firsts[drawn_order(np.array([1.0, 3.0, 0.0]), generator)[0]] += 1
    assert firsts[2] == 0 and firsts[1] / 3000 == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize(
    ("value", "number"),
    [(3, 3.0), ("Level 5", 5.0), ("0.25", 0.25), ("-1", -1.0)]
    + [(bad, None) for bad in ("hard", "", None, True, float("nan"), [1])],
)
def test_accepted_difficulty_values(value, number):
    assert as_number(value) == number


@pytest.mark.parametrize(
    ("values", "classes"),
    [([2, 1, 2, np.nan], [1, 0, 1, 2]), ([np.nan, np.nan], [0, 0]), ([0.5], [0])],
)
def test_problems_of_equal_difficulty_are_one_class(values, classes):
    assert classes_of(np.array(values)).tolist() == classes


def test_many_difficulties_become_quantiles():
    classes = classes_of(np.arange(1000.0))
    assert len(np.unique(classes)) == 20 and (np.diff(classes) >= 0).all() and np.bincount(classes).max() <= 51


def test_pass_rate_is_shrunk_toward_its_class():
    rates = PassRates(NOTHING, np.array([1.0, 1, 1, 2]), half_life=20)
    rates.observe({0: (8, 8)})
    own, like, like_too, other = rates.estimate()
    of_class = (8 + 8 * 0.5) / (8 + 8)
    assert (like, like_too, other) == (of_class, of_class, 0.5)
    assert own == (8 + 8 * of_class) / 16


def test_outcomes_decay_by_half_life():
    rates = PassRates(NOTHING, np.ones(4), half_life=5)
    rates.observe({0: (4, 8)})
    for _ in range(5):
        rates.observe({})
    assert (rates.correct[0], rates.attempts[0]) == (pytest.approx(2), pytest.approx(4))


def test_base_pass_rates_initialize_the_estimate():
    rates = PassRates(np.array([0.0, 0.25, 1.0, np.nan]), NOTHING, half_life=20)
    assert rates.estimate().tolist() == [0, 0.25, 1, 0.5]


def sampler(name="window", problems=40, seed=0, **settings) -> CurriculumSampler:
    difficulty = np.arange(problems) % 4.0
    if name == "staged":
        settings["stages"] = ((0, 1.0), (3, 3.0))
    return CurriculumSampler(CurriculumSettings(name, **settings), difficulty, np.full(problems, np.nan), seed)


def run_steps(one: CurriculumSampler, steps: int, batch: int = 6, iterator=None) -> tuple[list[list[int]], object]:
    """Batches as a trainer takes them; a problem of difficulty d is solved by 8 - 2 d of 8 completions."""
    iterator, batches = iterator or iter(one), []
    for _ in range(steps):
        batches.append([int(next(iterator)) for _ in range(batch)])
        one.observe({problem: (int(8 - 2 * one.difficulty[problem]), 8) for problem in batches[-1]})
    return batches, iterator


@pytest.mark.parametrize("name", ["uniform", "staged", "window"])
def test_seed_fixes_the_order(name):
    first, again, other = (run_steps(sampler(name, seed=seed), 6)[0] for seed in (3, 3, 4))
    assert first == again != other


@pytest.mark.parametrize("name", ["uniform", "staged", "window"])
@pytest.mark.parametrize("done", [1, 3, 5])
def test_restored_sampler_continues_with_the_same_problems(name, done):
    whole, _ = run_steps(sampler(name), 6)
    interrupted = sampler(name)
    run_steps(interrupted, done)
    restored = sampler(name)
    restored.load_state_dict(interrupted.state_dict())
    assert run_steps(restored, 6 - done)[0] == whole[done:]


@pytest.mark.parametrize(("name", "until_again"), [("window", 40), ("staged", 20)])  # staged has 20 unlocked
def test_state_saved_within_a_step_is_resumable(name, until_again):
    one, two = sampler(name), sampler(name)
    iterator = iter(one)
    taken = [next(iterator) for _ in range(5)]
    two.load_state_dict(one.state_dict())
    rest = list(iterator)
    assert list(iter(two)) == rest and len(taken + rest) == 40
    assert len(set((taken + rest)[:until_again])) == until_again


def test_steps_of_equal_weights_draw_afresh():
    first, second = run_steps(sampler(explore=1.0), 2)[0]
    assert set(first) != set(second)


@pytest.mark.parametrize("name", ["staged", "window"])
def test_openrlhfs_data_loader_keeps_the_state(name):
    loaders = pytest.importorskip("torchdata.stateful_dataloader")

    def loader(one):
        return loaders.StatefulDataLoader(list(range(len(one))), batch_size=1, sampler=one, drop_last=True)

    whole, first, second = sampler(name), sampler(name), sampler(name)
    expected, _ = run_steps(whole, 5, iterator=iter(loader(whole)))
    before, after = loader(first), loader(second)
    run_steps(first, 2, iterator=iter(before))
    after.load_state_dict(before.state_dict())
    assert run_steps(second, 3, iterator=iter(after))[0] == expected[2:]


def test_uniform_shows_every_problem_once_an_epoch():
    one = sampler("uniform", problems=42)
    for _ in range(2):
        batches, iterator = run_steps(one, 7)
        assert sorted(sum(batches, [])) == list(range(42))
        assert list(iterator) == []  # the episode ends


def test_staged_stays_in_its_stage_without_early_repeats():
    batches, _ = run_steps(sampler("staged"), 6)
    difficulties = [[problem % 4 for problem in batch] for batch in batches]
    assert max(sum(difficulties[:3], [])) == 1 and max(sum(difficulties[3:], [])) > 1
    assert len(set(sum(batches[:3], []))) == 18  # of 20 that are unlocked


def test_window_follows_problems_of_medium_pass_rate():
    one = sampler(explore=0.05, problems=400)
    batches, _ = run_steps(one, 12, batch=30)
    late = [problem % 4 for batch in batches[8:] for problem in batch]
    assert late.count(0) < 0.12 * len(late) < late.count(2), "difficulty 0 is always solved, 2 half the time"


def test_without_learning_the_base_models_pass_rates_hold():
    base = np.array([0.0, 1.0, 0.5, np.nan])
    one = CurriculumSampler(CurriculumSettings("window", learn=False), NOTHING, base, 0)
    one.observe({0: (8, 8)})
    assert one.pass_rates().tolist() == [0, 1, 0.5, 0.5]


def test_dynamic_sampling_gets_more_than_a_batch_and_no_problem_twice():
    one = sampler(problems=10)
    iterator = iter(one)
    assert sorted(next(iterator) for _ in range(10)) == list(range(10))


def test_state_of_other_problems_is_refused():
    with pytest.raises(UserError, match="is of 40 problems, --data.prompt_dataset has 39"):
        sampler(problems=39).load_state_dict(sampler(problems=40).state_dict())


def halves(known: Known, settings: CurriculumSettings) -> np.ndarray:
    return np.arange(len(known.seen)) % 2


def broken(known: Known, settings: CurriculumSettings) -> np.ndarray:
    return -np.ones(len(known.seen))


def test_custom_curriculum():
    batches, _ = run_steps(sampler(f"{__name__}.halves"), 3)
    assert all(problem % 2 for batch in batches for problem in batch)
    with pytest.raises(UserError, match="--math.curriculum .* weights from -1 to -1 in step 1"):
        next(iter(sampler(f"{__name__}.broken")))
    with pytest.raises(UserError, match="choose one of uniform, staged, window, or give your own"):
        find_curriculum("windwo")
    assert find_curriculum("uniform") is uniform


def too_few(known: Known, settings: CurriculumSettings) -> np.ndarray:
    return np.ones(len(known.seen) - 1)


def no_numbers(known: Known, settings: CurriculumSettings) -> np.ndarray:
    return known.pass_rate * np.nan


def raises(known: Known, settings: CurriculumSettings) -> np.ndarray:
    return known.no_such_field


def nothing(known: Known, settings: CurriculumSettings) -> None:
    return None


def hardest_only(known: Known, settings: CurriculumSettings) -> np.ndarray:
    return known.difficulty >= 5


@pytest.mark.parametrize("name", ["broken", "too_few", "no_numbers", "raises", "nothing"])
def test_own_curriculum_is_tried_out_before_a_run(name: str):
    with pytest.raises(UserError, match=f"--math.curriculum {__name__}.{name}: "):
        check_curriculum(CurriculumSettings(f"{__name__}.{name}"))


@pytest.mark.parametrize("name", [f"{__name__}.halves", f"{__name__}.hardest_only", "staged", "uniform", "window"])
def test_sound_curriculum_passes_the_trial(name: str):
    check_curriculum(CurriculumSettings(name, difficulty_key="difficulty"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("0:1,x", "'x' is not STEP:VALUE"),
        ("5:1", "the first stage begins at step 5"),
        ("0:1,10:1", "10:1 after 0:1; steps and values must both rise"),
        ("0:1,0:2", "must both rise"),
        ("", "is not STEP:VALUE"),
        ("0:nan,3:1", "must both rise"),
    ],
)
def test_invalid_stages(text, sentence):
    with pytest.raises(UserError, match=sentence):
        parse_stages("--s", text, float)


def test_stage_value():
    assert [value_at(((0, 5), (3, 7)), step) for step in (0, 2, 3, 99)] == [5, 5, 7, 7]


def order(tmp_path, rows, name="window") -> ProblemOrder:
    path = tmp_path / "0.jsonl"
    path.write_text("".join(json.dumps({"datasource": "a"} | row) + "\n" for row in rows))
    args = SimpleNamespace(
        data=SimpleNamespace(prompt_dataset=str(path), max_samples=100, input_key="problem"),
        math=SimpleNamespace(curriculum=CurriculumSettings(name)),
        train=SimpleNamespace(seed=0),
    )
    return ProblemOrder(args, [row["problem"] for row in rows])


def test_step_report(tmp_path):
    rows = [{"problem": text, "difficulty": n, "datasource": text} for n, text in enumerate("abcb")]
    one = order(tmp_path, rows)
    for prompt, correct in [("a", True), ("a", True), ("b", False), ("b", True), ("elsewhere", True)]:
        one.note(prompt, correct)
    drawn, metrics = one.end_step()
    assert drawn == {"problems": [0, 1, 3], "correct": [2, 1, 1], "attempts": [2, 2, 2]}
    assert metrics["curriculum/mixed_rate"] == pytest.approx(2 / 3)
    assert metrics["curriculum/difficulty_mean"] == pytest.approx(4 / 3)
    assert metrics["curriculum/expected_pass_rate"] == 0.5
    assert (metrics["groups/solved_all"], metrics["groups/pass_at_2"]) == (pytest.approx(1 / 3), 1.0)
    assert (metrics["accuracy/source/a"], metrics["accuracy/source/b"]) == (1.0, 0.5)
    assert (metrics["accuracy/difficulty/0"], metrics["accuracy/difficulty/3"]) == (1.0, 0.5)
    assert one.sampler.seen.tolist() == [1, 1, 0, 1]
    with pytest.raises(UserError, match="gives back no prompt"):
        one.end_step()


def grpo(tmp_path, rows, *flags) -> int:
    from openrlhf_math.data.tiny_world.world import build_tokenizer

    data, model = tmp_path / "data.jsonl", tmp_path / "model"
    build_tokenizer(["How many apples? 1+1=2."]).save_pretrained(model)
    (model / "config.json").write_text('{"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}')
    data.write_text("".join(json.dumps({"problem": "1+1", "answer": "2"} | row) + "\n" for row in rows))
    command = ["grpo", "--actor.model_name_or_path", str(model), "--data.prompt_dataset", str(data)]
    return main([*command, "--math.run_dir", str(tmp_path / "run"), *flags])


STAGED = ("--math.curriculum", "staged", "--math.curriculum_stages", "0:1,9:2")


@pytest.mark.parametrize(
    ("rows", "flags", "sentence"),
    [
        ([{}] * 16, ("--math.curriculum", "windwo"), "--math.curriculum windwo: there is none of that name"),
        ([{}] * 16, STAGED[:2], "staged: give the stages"),
        ([{}] * 16, STAGED, "name the column of the difficulty with --math.difficulty_key"),
        ([{}] * 16, STAGED[2:], "--math.curriculum_stages is for --math.curriculum staged, this is uniform"),
        ([{}] * 16, (*STAGED, "--math.difficulty_key", "level"), "row 1 has no column 'level', only problem, answer"),
        (
            [{"level": 1}] * 16 + [{"level": "hard"}],
            (*STAGED, "--math.difficulty_key", "level"),
            "row 17: 'level' is 'hard', not a number",
        ),
        (
            [{"level": 1}] * 15 + [{"level": 7}],
            (*STAGED, "--math.difficulty_key", "level"),
            "difficulty up to 1, which 15 problems have, fewer than --rollout.batch_size 16",
        ),
        (
            [{"level": 7}] * 20 + [{"level": 1}] * 16,
            (*STAGED, "--math.difficulty_key", "level", "--data.max_samples", "20"),
            "difficulty up to 1, which 0 problems have",
        ),
        (
            [{"p": 1.5}] * 16,
            ("--math.curriculum", "window", "--math.pass_rate_key", "p"),
            "row 1: 'p' is 1.5, not a number from 0 to 1",
        ),
        (
            [{}] * 16,
            ("--math.curriculum", "window", "--no-math.learn_pass_rates"),
            "window goes by pass rates: name their column with --math.pass_rate_key",
        ),
        ([{}] * 16, ("--math.curriculum_explore", "2"), "--math.curriculum_explore 2: give a share from 0 to 1"),
        ([{}] * 16, ("--math.pass_rate_half_life", "0"), "--math.pass_rate_half_life 0: give a number of steps"),
        (
            [{}] * 16,
            ("--math.curriculum", "window", "--data.prompt_probs", "1.0"),
            "--data.prompt_probs 1.0: --math.curriculum window chooses every problem itself",
        ),
    ],
)
def test_invalid_input_is_one_sentence_and_writes_nothing(tmp_path, capsys, rows, flags, sentence):
    assert grpo(tmp_path, rows, *flags) == 2
    error = capsys.readouterr().err
    assert sentence in error and len(error.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_dry_run_reports_it(tmp_path, capsys):
    assert grpo(tmp_path, [{"level": 1}] * 16, *STAGED, "--math.difficulty_key", "level", "--dry-run") == 0
    result = " ".join(capsys.readouterr().out.split())
    assert "curriculum: staged; up to difficulty 1 from step 0, up to difficulty 2 from step 9" in result
    assert "difficulty from column level" in result


def test_its_state_has_no_empty_tensor():
    """One that came through Ray without a copy may begin where its neighbour does, and PyTorch saves no such pair."""
    state = sampler().state_dict()
    assert state["coming"] == []
    assert all(value.numel() for value in state.values() if isinstance(value, torch.Tensor))
