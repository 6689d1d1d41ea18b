"""The yield curve as a picture."""

from pathlib import Path

from openrlhf_math.distill.yields import Point


def plot_yield(points: list[Point], path: Path) -> None:
    """Draw the problems solved by the number of attempts, and how many problems had so many. Raises ImportError."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    attempts = [one.attempts for one in points]
    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    axes.plot(attempts, [one.solved / one.problems for one in points], "o-", label="solved: at least one correct trace")
    asked = [one.asked / one.problems for one in points]
    axes.bar(attempts, asked, color="tab:grey", alpha=0.3, label="had so many attempts")
    axes.set(title="Yield by attempts", xlabel="attempts at a problem", ylabel="problems", ylim=(0, 1.02))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
