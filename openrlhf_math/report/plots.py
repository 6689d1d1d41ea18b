"""The curves of a run, and plots of several runs: smoothed where there are enough steps, SVG in the page's colours."""

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from openrlhf_math.runs.records import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Value = Callable[[dict], float | None]


@dataclass(frozen=True, slots=True)
class Curve:
    """A figure of every step.

    value: of a record, None where it has none. share: between 0 and 1, shown in percent. from_zero: the axis begins
    there. room: the axis reaches at least so far to both sides of 0, so that rounding errors look as small as they are.
    zeros_matter: whether a curve that is 0 throughout says something; if not, it is left out.
    noisy: whether a smoothed line helps.
    """

    title: str
    unit: str
    note: str
    value: Value
    share: bool = False
    from_zero: bool = True
    room: float = 0.0
    zeros_matter: bool = True
    noisy: bool = True


def named(name: str) -> Value:
    return lambda row: number(row, name)


def generation_seconds(row: dict) -> float | None:
    """Of the batch of a step. With `--math.overlap` it was generated while the policy trained on the one before."""
    if "timing/rollout_wait" not in row:
        return number(row, "timing/generation")
    begin, end = (number(row, f"timeline/rollout_{name}") for name in ("begin", "end"))
    return None if begin is None or end is None else end - begin


def step_seconds(row: dict) -> float | None:
    return number(row, "timing/step_total")


def tokens_a_second(duration: Value) -> Value:
    """Completion tokens of the whole batch, without a tool's, by the seconds of a part of the step."""

    def value(row: dict) -> float | None:
        length, completions = (number(row, name) for name in ("completion_length", "rollout/num_samples"))
        seconds = duration(row)
        if length is None or completions is None or seconds is None or seconds <= 0:
            return None
        return (length - (number(row, "tool/tokens") or 0.0)) * completions / seconds

    return value


GRPO = (
    Curve("Reward", "reward", "mean over the step's completions", named("reward"), from_zero=False),
    Curve("Accuracy", "correct completions", "on training problems, sampled", named("accuracy"), share=True),
    Curve(
        "Labelled by a majority", "completions", "without a gold answer: accuracy is agreement with their group",
        named("majority/rate"), share=True, zeros_matter=False,
    ),
    Curve("Completion length", "tokens", "mean over completions", named("completion_length")),
    Curve("Length of correct completions", "tokens", "mean", named("length/correct_mean")),
    Curve("Length of wrong completions", "tokens", "mean", named("length/wrong_mean")),
    Curve("Groups without a correct completion", "groups", "zero advantage", named("groups/solved_none"), share=True),
    Curve("Groups without a wrong completion", "groups", "zero advantage", named("groups/solved_all"), share=True),
    Curve("Truncation", "completions", "cut off at the token limit", named("truncation_rate"), share=True),
    Curve("Entropy", "nats a token", "of the policy's next-token distribution", named("entropy_loss")),
    Curve("Gradient norm", "L2 norm", "before clipping", named("grad_norm")),
    Curve(
        "KL to the start", "nats a token", "mean over tokens, from the reference model", named("kl"),
        from_zero=False, zeros_matter=False,
    ),
    Curve(
        "Reverse KL to the teacher", "nats a token", "mean of log student / teacher over the action tokens",
        named("teacher/reverse_kl"), from_zero=False,
    ),
    Curve(
        "Policy loss", "loss", "without a teacher and with one gradient step a batch 0; its gradient is not",
        named("policy_loss"), from_zero=False, room=0.01,
    ),
    Curve("Log-probability gap", "nats a token", "trainer against vLLM", named("logprob_gap")),
    Curve("Effective sample size", "share of the tokens", "of weights policy / engine", named("rollout_corr/ess")),
    Curve(
        "KL to the engine", "nats a token", "KL(rollout || trainer), estimated by w - 1 - log w",
        named("rollout_corr/k3_kl"),
    ),
    Curve("Ungraded completions", "completions", "not graded in time: wrong", named("ungraded_rate"), share=True),
    Curve("Correct format", "completions", "whatever their answer", named("format_rate"), share=True),
    Curve("Zero advantage", "completions", "one reward in the group", named("zero_advantage_rate"), share=True),
    Curve("Tool calls", "calls", "mean over completions", named("tool/calls")),
    Curve("Failed tool calls", "calls", "they raised, ended or ran out of time", named("tool/failed_rate"), share=True),
    Curve("Time in the tool", "seconds", "mean over completions", named("tool/seconds")),
    Curve("Tokens of the tool", "completion tokens", "left out of the loss", named("tool/token_share"), share=True),
    Curve("Learning rate", "learning rate", "of the optimizer", named("learning_rate"), noisy=False),
    Curve("Speed of a step", "completion tokens / s", "generation and training", tokens_a_second(step_seconds)),
    Curve("Speed of generation", "completion tokens / s", "generation alone", tokens_a_second(generation_seconds)),
    Curve("Peak memory", "GiB", "sum of each process's peak in the step", named("memory/peak_gib")),
)  # fmt: skip

# Metrics whose names depend on the problems: the beginning of the name, of the title, the unit.
PARTS = {
    "reward/": ("Part of the reward: ", "reward"),
    "groups/pass_at_": ("Groups: pass@", "groups"),
    "accuracy/source/": ("Accuracy on ", "correct completions"),
    "accuracy/difficulty/": ("Accuracy at difficulty ", "correct completions"),
}

TUNING = (
    Curve("Loss", "nats", "training loss", named("loss")),
    Curve("Gradient norm", "L2 norm", "before clipping", named("grad_norm")),
    Curve("Learning rate", "learning rate", "of the optimizer", named("learning_rate"), noisy=False),
)

# Of evaluations during a run: what OpenRLHF calls it, what it is called here.
OPENRLHF_EVALUATION = re.compile(r"eval_(?P<of>.+_)?(?P<what>pass\d+|response_length_mean|truncated_rate)")
NOT_DRAWN = ("step", "steps", "tokens", "eval_num_samples")


def part_curves(rows: list[dict]) -> list[Curve]:
    """A curve of the training accuracy for every source and difficulty, of every pass@k of the groups, and of every
    part of the reward, without its weight."""
    names = dict.fromkeys(name for row in rows for name in row if name.startswith(tuple(PARTS)))
    return [
        Curve(
            title + name.removeprefix(prefix),
            unit,
            "on training problems, sampled",
            named(name),
            share=unit != "reward",
            from_zero=unit != "reward",
        )  # fmt: skip
        for prefix, (title, unit) in PARTS.items()
        for name in names
        if name.startswith(prefix)
    ]


def evaluation_curves(rows: list[dict]) -> list[Curve]:
    """A curve for every number of the evaluations during a run."""
    names = dict.fromkeys(name for row in rows for name in row if name not in NOT_DRAWN)
    return [_evaluation_curve(name) for name in names if any(number(row, name) is not None for row in rows)]


def _evaluation_curve(name: str) -> Curve:
    found = OPENRLHF_EVALUATION.fullmatch(name)
    if not found:
        share = name in ("accuracy", "auc", "right")
        title = name.upper() if name == "auc" else name
        return Curve(
            f"Held out: {title}", "" if share else name, "evaluations during the run", named(name), share=share
        )
    of, what = (found["of"] or "all_").rstrip("_"), found["what"]
    if what == "response_length_mean":
        return Curve("Held out: completion length", "tokens", f"on {of}, during the run", named(name))
    if what == "truncated_rate":
        return Curve("Held out: truncation", "completions", f"on {of}, during the run", named(name), share=True)
    return Curve(f"Held out: pass@{what[4:]}", "problems", f"on {of}, during the run", named(name), share=True)


SERIES = 8  # colours there are for runs
# Colours that stand in the figure for the page's variables: matplotlib wants a colour, the page has two of each.
INK, GRID = "#c0ffe8", "#c0ffe9"
COLOURS = [f"#c0ffe{number}" for number in range(SERIES)]
VARIABLES = {INK: "var(--ink)", GRID: "var(--grid)"} | {
    colour: f"var(--series-{number})" for number, colour in enumerate(COLOURS)
}
SIZE = (4.6, 2.6)  # inches, at 72 points each: the view box, which the page scales

STYLE = {
    "svg.fonttype": "none",  # text stays text: small, and in the page's font
    "path.simplify": False,  # it would drop the dots, which are lines without length
    "text.parse_math": False,
    "font.size": 9,
    "axes.edgecolor": GRID, "axes.labelcolor": INK, "axes.linewidth": 0.8,
    "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": GRID, "grid.linewidth": 0.6,
    "xtick.color": GRID, "ytick.color": GRID, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
    "text.color": INK, "figure.facecolor": "none", "axes.facecolor": "none",
}  # fmt: skip


@contextmanager
def drawing(title: str) -> Iterator[tuple]:
    """Axes to draw on while the block runs, and a list that has the SVG afterwards."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    drawn: list[Markup] = []
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": title}):
        figure = Figure(figsize=SIZE, layout="constrained")
        FigureCanvasSVG(figure)
        yield figure.subplots(), drawn
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    drawn.append(_inlined(file.getvalue(), title))


def _inlined(svg: str, title: str) -> Markup:
    """Without parts that only a separate file needs, and without parts that would affect the page around it."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>|<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.S)
    svg = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", svg)  # of groups; markers and clip paths have others
    svg = re.sub(r"font: ([\d.]+)px[^;\"]*", r"font-size: \1px", svg)
    # A hundredth of a point is enough; texts between the tags keep their digits.
    svg = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\.\d\d)\d+", r"\1", tag.group()), svg)
    svg = re.sub("|".join(VARIABLES), lambda colour: VARIABLES[colour.group()], svg)
    svg = re.sub(r"\n\s*", "\n", svg)
    found = re.search(r'viewBox="[^"]*"', svg)
    assert found is not None  # Matplotlib writes one
    view = found.group()
    label = Markup("<svg {} role='img' aria-label='{}' xmlns:xlink='http://www.w3.org/1999/xlink'>")
    return label.format(Markup(view), title) + Markup(svg[svg.index(">") + 1 :])


SMOOTH_FROM = 20  # steps; fewer are joined as they are
SMOOTH_OVER, LEAST_WINDOW = 0.04, 5  # share of the steps that a point of the line is the mean of, and at least so many
MOST_DOTS, MOST_POINTS = 600, 1600  # that are drawn of all runs together
# Lines without length and with round ends: a tenth of the bytes of markers.
DOT = {"linewidth": 2.2, "solid_capstyle": "round"}
DASHES = ("-", (0, (4, 1.5)), (0, (1, 1)))


@dataclass(frozen=True, slots=True)
class Plot:
    """missing: steps whose value is not a number."""

    title: str
    note: str
    svg: Markup
    missing: int = 0


def plot(curve: Curve, runs: list[list[dict]]) -> Plot | None:
    """runs: their rows, in the order of their colours. None where no run has the curve, or it says nothing; or where no
    run has two points, as an axis would be made up: see `single_points`."""
    series = [_points(curve, rows) for rows in runs]
    values = [value for _, run in series for value in run]
    if not values or (not curve.zeros_matter and not any(values)) or max(len(run) for _, run in series) < 2:
        return None
    windows = [_window(len(run)) if curve.noisy else None for _, run in series]
    with drawing(f"{curve.title}, {curve.unit}") as (axes, drawn):
        for number, ((steps, run), window) in enumerate(zip(series, windows, strict=True)):
            style = line_style(number)
            if window:
                dots = _thinned(len(run), MOST_DOTS // len(runs))
                axes.plot(*_as_dots(steps[dots], run[dots]), **style | {"linestyle": "-"}, **DOT, alpha=0.35)
                run = smoothed(run, window).tolist()
            elif len(run) <= LEAST_WINDOW:
                axes.plot(steps, run, "o", color=style["color"], markersize=3, clip_on=False)
            points = _thinned(len(run), MOST_POINTS // len(runs))
            axes.plot(steps[points], run[points], **style, linewidth=1.6, clip_on=False)
        _dress(axes, curve, values)
    missing = sum(len(rows) for rows in runs if _points(curve, rows)[1]) - len(values)
    return Plot(curve.title, curve.note, drawn[0], missing)


def single_points(curve: Curve, runs: list[list[dict]]) -> list[tuple[int, float] | None]:
    """By run the step and the value of a curve whose runs have one point at the most; [] if one has more, or none has
    any."""
    series = [_points(curve, rows) for rows in runs]
    if max((len(steps) for steps, _ in series), default=0) != 1:
        return []
    return [(steps[0], values[0]) if steps else None for steps, values in series]


def line_style(number: int) -> dict:
    """Of a run by its place: a colour, and dashes where there are more runs than colours. As the page's legend."""
    return {"color": COLOURS[number % SERIES], "linestyle": DASHES[number // SERIES % len(DASHES)]}


def smoothed(values: list[float], window: int) -> np.ndarray:
    """The mean of each value and its neighbours on both sides, `window` in all (odd), fewer at the ends."""
    weights = np.ones(window)
    return np.convolve(values, weights, "same") / np.convolve(np.ones(len(values)), weights, "same")


def _thinned(length: int, most: int) -> slice:
    """Every n-th of so many, so that few enough are left."""
    return slice(None, None, max(1, -(-length // max(1, most))))


def _as_dots(steps: list, values: list) -> tuple[list, list]:
    gap = float("nan")
    return [x for step in steps for x in (step, step, gap)], [y for value in values for y in (value, value, gap)]


def _points(curve: Curve, rows: list[dict]) -> tuple[list[int], list[float]]:
    points = [(row["step"], value) for row in rows if (value := curve.value(row)) is not None]
    return [step for step, _ in points], [value for _, value in points]


def _window(steps: int) -> int | None:
    return None if steps < SMOOTH_FROM else max(LEAST_WINDOW, round(SMOOTH_OVER * steps) | 1)


def _dress(axes: "Axes", curve: Curve, values: list[float]) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    low, high = min(values), max(values)
    if curve.room:
        reach = max(curve.room, 1.1 * max(abs(low), abs(high)))
        axes.set_ylim(-reach, reach)
    elif curve.share:
        axes.set_ylim(0, min(1.0, max(0.05, 1.1 * high)))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    elif curve.from_zero and low >= 0:
        axes.set_ylim(0, 1.1 * high or 1)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    axes.margins(x=0.02)
    axes.set_xlabel("step")
    axes.set_ylabel(curve.unit)
    axes.tick_params(length=0)
    axes.xaxis.label.set_color(INK)
