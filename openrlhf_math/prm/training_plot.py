"""A training as a picture: the loss, and how well held-out steps are told apart."""

from pathlib import Path

from openrlhf_math.sft.plot import SMOOTH_OVER, records_of, trailing_mean


def plot_training(run_dir: Path, title: str) -> None:
    """Draw metrics.jsonl (and eval.jsonl, if there is one) into prm.png."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    records, evaluations = records_of(run_dir / "metrics.jsonl"), records_of(run_dir / "eval.jsonl")
    if not records:
        return
    columns = 2 if evaluations else 1
    figure, panels = pyplot.subplots(1, columns, figsize=(6 * columns, 4.2), layout="constrained", squeeze=False)
    (loss, *others) = panels[0]
    steps, losses = [each["step"] for each in records], [each["loss"] for each in records]
    window = max(1, round(SMOOTH_OVER * len(records)))
    loss.plot(steps, losses, color="tab:blue", alpha=0.35 if window > 1 else 1, linewidth=1, label="each step")
    if window > 1:
        loss.plot(steps, trailing_mean(losses, window), color="tab:blue", label=f"mean of {window} steps")
    loss.set(xlabel="step (one gradient update)", ylabel="cross entropy (nats a solution step)", ylim=(0, None))
    if evaluations:
        at = [each["step"] for each in evaluations]
        loss.plot(at, [each["loss"] for each in evaluations], "o-", color="tab:orange", label="held-out")
        for name, colour in (("accuracy", "tab:green"), ("auc", "tab:red")):
            others[0].plot(at, [each[name] for each in evaluations], "o-", color=colour, label=name)
        others[0].axhline(evaluations[-1]["right"], color="grey", linestyle=":", label="share of right steps")
        others[0].set(xlabel="step (one gradient update)", ylabel="of held-out solution steps", ylim=(None, 1))
    for panel in panels[0]:
        panel.grid(alpha=0.3)
        panel.legend()
    figure.suptitle(title)
    figure.savefig(run_dir / "prm.png", dpi=150)
    pyplot.close(figure)
