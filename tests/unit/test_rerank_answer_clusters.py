"""Attempts into clusters: the same answer is one cluster however it is written, and hostile answers cost little."""

import random
import time

import pytest

from openrlhf_math.rerank.answer_clusters import MOST_UNRESOLVED, GraderSays, group
from openrlhf_math.rerank.anytime import Attempt, VoteState
from openrlhf_math.rewards import Grade, GradingPool, RewardConfig
from openrlhf_math.rewards.fingerprint import blocking_keys
from openrlhf_math.rewards.notation import key, tidy
from openrlhf_math.rewards.outcome import Open, begin
from openrlhf_math.rewards.same import equivalent


@pytest.fixture(scope="module")
def pool():
    pool = GradingPool(RewardConfig(workers=1, timeout_seconds=0.5))
    yield pool
    pool.close()


@pytest.fixture
def slow_pool(monkeypatch):
    monkeypatch.setattr("openrlhf_math.rewards.pool.MODULE", "slow_judge")
    pool = GradingPool(RewardConfig(workers=1, timeout_seconds=0.5))
    yield pool
    pool.close()


@pytest.mark.parametrize(
    "answers, clusters",
    [
        ([], []),
        ([None, None], [None, None]),
        (["", "  ", "5"], [None, None, 0]),
        (["5", "5", "6", "5"], [0, 0, 1, 0]),
        ([r"\frac{1}{2}", "0.5", "1/2", "2", r"\dfrac12"], [0, 0, 0, 1, 0]),
        (["3, 5", r"\{5, 3\}", "(5,3)"], [0, 0, 1]),
        (["x=3", "3", r"\boxed{3}", "4"], [0, 0, 0, 1]),
        ([r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}", "0.7"], [0, 0, 1]),
        (["10^4", "10000", "10{,}000"], [0, 0, 0]),
        ([r"\text{Yes}", "no", "yes"], [0, 1, 0]),
        ([r"2\cdot x", r"2 \cdot y", "2x"], [0, 1, 0]),
        (["{", "{", "}", "5"], [0, 0, 1, 2]),
        (["9" * 3000, "9" * 3000, "9" * 3001], [0, 0, 1]),
        # both count for 5, yet they are not each other
        ([r"5\text{ m}", r"5\text{ cm}"], [0, 1]),
        (["x=3", "y=3"], [0, 1]),
        # 50% counts for 50 and for 0.5, which are not each other
        (["50", "0.5", r"50\%"], [0, 1, 0]),
    ],
)
def test_clusters(answers, clusters, pool):
    assert group(answers, GraderSays(pool)) == clusters


@pytest.mark.parametrize("other", ["(1,2)", r"\langle 1,2\rangle", "(x,y)=(1,2)"])
def test_either_answer_may_be_the_gold_one(pool, other):
    """The grader takes a tuple for the gold answer 1, 2, but not 1, 2 for the tuple."""
    graded = [pool.grade_now(rf"\boxed{{{a}}}", b).outcome == "correct" for a, b in (("1,2", other), (other, "1,2"))]
    assert sorted(graded) == [False, True]
    assert [GraderSays(pool)(*pair) for pair in (("1,2", other), (other, "1,2"))] == [True, True]


def test_letter_and_its_option_are_equal(pool):
    problem = "How many? (A) 10 (B) 12"
    assert group(["B", "12", "(b)", "10"], GraderSays(pool, problem)) == [0, 0, 0, 1]


def test_order_of_the_attempts_does_not_change_the_clusters(pool):
    answers = ["50", "0.5", r"50\%", r"\frac12", "1/2", None, r"5\text{ m}", "5", r"5\text{ cm}", "x=5"]
    says = GraderSays(pool)

    def partition(order):
        clusters = group([answers[i] for i in order], says)
        return {
            frozenset(i for i, c in zip(order, clusters, strict=True) if c == name) for name in set(clusters) - {None}
        }

    wanted = partition(range(len(answers)))
    for seed in range(20):
        order = random.Random(seed).sample(range(len(answers)), len(answers))
        assert partition(order) == wanted


def naive(answers, same):
    """The rule word for word: texts by key, shortest first, each with the first representative that is the same."""
    keys = [key(one) for one in answers]
    texts = {name: min((len(b), b) for a, b in zip(keys, answers, strict=True) if a == name)[1] for name in keys}
    order = sorted(texts.values(), key=lambda text: (len(text), text))
    class_of, representatives = {}, []
    for text in order:
        known = [other for other in representatives if same(other, text)]
        class_of[text] = known[0] if known else text
        representatives += [] if known else [text]
    of_each = [class_of[texts[name]] for name in keys]
    return [list(dict.fromkeys(of_each)).index(one) for one in of_each]


@pytest.mark.parametrize("seed", range(40))
def test_incremental_clusters_match_batch_clusters(seed):
    """Also where the relation has chains, and a shorter spelling or representative comes late."""
    rng = random.Random(seed)
    texts = [rng.choice(["", " ", "~ "]) + "abcdefgh"[: rng.randint(1, 8)] + str(rng.randint(0, 9)) for _ in range(24)]
    answers = [rng.choice(texts) for _ in range(40)]
    share, asked = rng.choice([0, 0.05, 0.3, 0.8]), []

    def same(first, second):
        asked.append((first, second))
        return random.Random(f"{seed} {sorted([first, second])}").random() < share

    state = VoteState(same)
    for made, answer in enumerate(answers, start=1):
        state.add(Attempt(answer))
        assert state.answer_clusters == naive(answers[:made], same)
    assert group(answers, same) == state.answer_clusters


def test_many_different_answers_compare_each_pair_once():
    asked = []
    state = VoteState(lambda *pair: asked.append(frozenset(pair)))
    answers = [str(number) for number in random.Random(0).sample(range(1000, 10000), 300)]
    for answer in answers:
        state.add(Attempt(answer))
    assert state.answer_clusters == list(range(300))
    assert len(asked) == len(set(asked)) == 300 * 299 / 2


def test_pending_answers_change_nothing():
    state = VoteState(lambda *pair: False)
    state.add(Attempt("12"))
    left = state.counted_with(Attempt("3"))
    state.add(Attempt("4"))
    assert (left.answer_clusters, state.answer_clusters) == ([0, 1], [0, 1])
    assert [one.answer for one in state.attempts] == ["12", "4"]


NUMBERS = [
    "3", "-3", "+3", "03", "3.0", "3.00000012", "3.0000001", r"\frac{6}{2}", "6/2", "6:2", "3:1", r"3\%", "0.03",
    r"300\%", r"3\text{ cm}", r"30\text{ mm}", "3 apples", "3 in", "three", "3rd", r"\$3", "3 dollars", "3.14159265",
    "3.141593", "3.1416", "1.5e1", "15", r"1.5\times 10^1", r"14\frac{2}{2}", r"0.\overline{3}", r"\frac13",
    "0.333333333", "0.3333333333333333", "3 am", r"3^\circ", "3,000", "3000", "3 thousand", "3 pens",
]  # fmt: skip
PROBLEMS = [None, "How many pens has Leo? (A) 3 (B) 15 (C) 0.03", "How many cm?", "Give a percentage of 3 apples."]


@pytest.mark.parametrize("problem", PROBLEMS)
def test_different_numbers_match_the_grader_in_both_orders(pool, problem):
    for first in NUMBERS:
        for second in NUMBERS:
            says = GraderSays(pool, problem)
            if key(first) == key(second) or not (says._number(first) and says._number(second)):
                continue
            graded = [pool.grade_now(f"\\boxed{{{a}}}", b, problem) for a, b in ((first, second), (second, first))]
            assert bool(says(first, second)) == any(one.outcome == "correct" for one in graded), (first, second)


def test_equal_texts_are_compared_once():
    asked = []

    def same(first, second):
        asked.append((first, second))
        return False

    assert group(["7", " 7 ", "$7$", "8", "8"] * 100, same) == [0, 0, 0, 1, 1] * 100
    assert asked == [("7", "8")]


def test_grader_gets_an_original_text():
    asked = set()
    group([r"\cdot y + z", "1"], lambda *pair: asked.update(pair))
    assert asked == {r"\cdot y + z", "1"}


def test_hanging_comparisons_keep_answers_apart_at_bounded_cost(pool):
    hostile = [rf"9^{{9^{{9^{{{n}}}}}}} + x" for n in range(10, 22)]
    says = GraderSays(pool)
    begun = time.monotonic()
    clusters = group([*hostile, "7", "7.0", "8"], says)
    assert clusters[-3:] == [12, 12, 13]
    assert says.unresolved <= MOST_UNRESOLVED
    assert time.monotonic() - begun < 60


def test_many_different_values_cost_one_computation_each(pool):
    """64 attempts of the form a*sqrt(b)+c, each in two spellings, are 64 clusters and 64 comparisons, not 8,128."""
    rng = random.Random(2)
    values = {(rng.randint(2, 99), rng.choice([2, 3, 5, 7]), rng.randint(1, 99)) for _ in range(70)}
    first = [rf"{a}\sqrt{{{b}}}+{c}" for a, b, c in values][:64]
    second = [rf"{c}+\sqrt{{{a * a * b}}}" for a, b, c in values][:64]
    says = GraderSays(pool)
    assert group([*first, *second], says) == [*range(64), *range(64)]
    assert says.compared == 64


def test_tuples_are_computed_once(pool):
    says = GraderSays(pool)
    assert group([f"({n},{n + 1})" for n in range(40)], says) == list(range(40))
    assert says.compared == 0


def test_uncomputable_answer_costs_one_deadline(slow_pool):
    says = GraderSays(slow_pool)
    answers = [rf"\sqrt{{{n}}}+x" for n in range(2, 30)]
    begun = time.monotonic()
    assert group([*answers, "s_{pin}+x"], says)[-1] == len(answers)
    assert says.unresolved == 1
    assert time.monotonic() - begun < 30


FORMS = [
    "5", "5.0", r"5\%", "0.05", r"500\%", r"5\text{ cm}", r"50\text{ mm}", "5 m", "x=5", "5 = x", r"\{5\}", "5, 5",
    "five", "5th", "fifth", "5:1", "5:00", r"5 \pmod{7}", "101_2", r"5^\circ", "5 degrees", "2+3=5", "x=5, y=5",
    "(5,5)", r"\pm 5", "5,-5", r"|x|=5", "2x=10", r"\begin{pmatrix}5\\5\end{pmatrix}", "5+0i", r"\sqrt{25}", "5x",
    "5 x", "y=5x", "f(x)=5x", "f(n)=5n", r"5k, k\in\mathbb{Z}", "4.9999999999", r"\$5", "5 apples",
    r"\text{(A) } 5", "A", "B. 5", "(1,2)", r"[1,2]", "1<x<2", "1,2", r"\{1,2\}", r"1 \text{ or } 2", "x=1 or x=2",
    "x=1, y=2", "(x,y)=(1,2)", "P(1,2)", "1:2", "1/2", "0.5", r"50\%", r"\begin{pmatrix}1\\2\end{pmatrix}", "1,20",
    "1.20", "3.141593", r"\pi", r"\frac{\pi}{2}", r"90^\circ", "1.5707963267948966", "no solution", r"\emptyset",
    r"\{\}", "infinitely many", r"\infty", "all real numbers", r"\mathbb{R}", "yes", r"\text{Yes}", "red", "r e d",
    "red, blue", "A, C", "Bob", "B-o-b", r"\log 2", r"\log_{10} 2", "2^{10}", "1024", "x+1", "1+x", "y=x+1",
    "y-x=1", "2y=2x+2", "y'=1", r"\dot y = 1", r"1\pm\sqrt2", r"\{1+\sqrt{2},1-\sqrt{2}\}", "10^{20}", "1e20",
    "999999.9999999", "1000000", "0", "0.0000001", "2 hours", "120 minutes", "2:30 pm", "14:30", r"\boxed{5}",
    "the answer is 5", r"\text{Area}=5", "m+n=5", "3 1/2", "7/2", "x>5", r"(5,\infty)", r"\{x: x>5\}", "5!",
    r"\begin{cases} x & x>0 \\ -x & x<0\end{cases}", "1.414214", r"\sqrt{2}", "0.1666667", r"\frac16", "-5", "x=y",
    "5-5",
]  # fmt: skip


def graded_in_pairs(problem):
    """The grader's verdict on two texts, without a worker, a fingerprint or a blocking key."""
    config = RewardConfig()

    def same(first, second):
        # The clusters ask for the shorter one first.
        first, second = sorted([first, second], key=lambda text: (len(text), text))
        begun = [begin(f"</think>\\boxed{{{a}}}", b, problem, config) for a, b in ((second, first), (first, second))]
        if any(isinstance(one, Grade) and one.outcome == "correct" for one in begun):
            return True
        return any(equivalent(one.gold, one.answer, one.problem) for one in begun if isinstance(one, Open))

    return same


@pytest.mark.parametrize("problem", [None, "How many cm? (A) 5 (B) 12 (C) red", "The general solution, C a constant?"])
def test_mixed_answer_clusters_match_all_pairs(pool, problem):
    """Kinds of answers that are next to each other: each pair is compared here, the product compares few."""
    for seed in range(12):
        answers = random.Random(seed).sample(FORMS, 40)
        assert group(answers, GraderSays(pool, problem)) == naive(answers, graded_in_pairs(problem)), seed


def test_equal_answers_share_a_blocking_key_or_one_has_none():
    same = graded_in_pairs(None)
    keys = {form: frozenset(blocking_keys(tidy(form))) for form in FORMS}
    equal = 0
    for place, first in enumerate(FORMS):
        for second in FORMS[:place]:
            if keys[first] and keys[second] and keys[first].isdisjoint(keys[second]):
                plain = {"the answer is 5", r"\boxed{5}"}.isdisjoint((first, second))  # another text is graded
                assert not (plain and same(first, second)), (first, second)
            equal += same(first, second)
    assert equal > 100


def test_mixed_answer_kinds_compare_few_pairs(pool):
    """Answers without letters to choose or infinities: numbers, surds, tuples, intervals, units, equations."""
    rng = random.Random(3)
    forms = [
        "{}", "{}/7", "{}.5", r"{}\sqrt{{2}}", r"{}+\sqrt{{3}}", "({},1)", "[0,{}]", r"\{{0,{}\}}", r"{}\text{{ cm}}",
        "x={}", r"{}\%", r"{}\pi", "{}x+1", "{},2", "y={}x", r"{}^\circ",
    ]  # fmt: skip
    answers = [form.format(number) for form in forms for number in rng.sample(range(11, 900), 10)]
    says = GraderSays(pool)
    group(answers, says)
    assert says.unresolved == 0
    assert says.compared < 0.05 * len(answers) * (len(answers) - 1) / 2


def test_complex_number_without_imaginary_part_is_compared_with_a_set_of_numbers():
    assert equivalent(r"\{5\}", "5+0i")
    assert not equivalent(r"\{1, 5\}", "5+0i")
    assert not equivalent("5+0i", r"\{1, 5\}")


@pytest.mark.parametrize("other", [r"|z-1|<2", "(-1,3)", "z<3", r"\{1, 2\}", "5", r"|z+2i|<2"])
def test_complex_disk_is_not_an_interval(other):
    assert not equivalent(r"|z+i|<2", other)
    assert not equivalent(other, r"|z+i|<2")


@pytest.mark.parametrize(
    "pair", [(r"e^{i\pi}", "-1+0i"), (r"e^{i\pi/2}", "i"), ("5+0i", r"\sqrt{25}"), ("x+0i", "x+1-1")]
)
def test_rounding_error_part_does_not_separate_answers(pair, pool):
    assert group(pair, GraderSays(pool)) == [0, 0]
