"""Accuracy against the number of attempts, drawn."""

from pathlib import Path


def draw(summary: dict, path: Path) -> None:
    """Draw what `voting.report` tells. The format is that of the path's suffix."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator, PercentFormatter

    figure = Figure(figsize=(8, 5.5))
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    ks, most = summary["ks"], summary["ks"][-1]
    axes.plot(ks, summary["pass@k"]["accuracy"], color="black", linestyle="--", label="pass@k: at least one is correct")
    for label, accuracy, style in _curves(summary["rules"]):
        axes.plot(ks, accuracy, **style, markersize=5, linewidth=1.3, alpha=0.85, label=label)
    axes.axhline(summary["pass@1"]["accuracy"][0], color="grey", linestyle=":", label="pass@1: a single attempt")
    axes.set_xscale("log", base=2)
    axes.set_xticks(ks, [str(k) for k in ks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("attempts that take part, k")
    axes.set_ylabel("problems solved")
    axes.set_title(f"Accuracy by choosing rule, {summary['problems']:,} problems, up to {most} attempts each")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, labelspacing=0.9)
    figure.savefig(path, dpi=150, format=path.suffix[1:], bbox_inches="tight")  # with the legend beside it


def _curves(rules: dict) -> list[tuple[str, list[float], dict]]:
    """Label, values and style of every curve: a colour a rule, a marker an aggregation.

    Rules that agree everywhere are one curve with all names: of curves on top of each other only the last is seen.
    """
    names: dict[tuple, list[str]] = {}
    for name, rule in rules.items():
        names.setdefault(tuple(rule["accuracy"]), []).append(name)
    colours: dict[str, str] = {}
    markers: dict[str, str] = {}
    curves = []
    for accuracy, same in names.items():
        rule, _, aggregation = same[0].partition(", ")
        style = {
            "color": colours.setdefault(rule, f"C{len(colours) % 10}"),
            "marker": markers.setdefault(aggregation, "osD^vPX*"[len(markers) % 8]),
        }
        curves.append(("\n= ".join(same), list(accuracy), style))
    return curves
