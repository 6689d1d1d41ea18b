"""A table before it is HTML or Markdown, and how numbers are written in it."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Interval:
    low: float
    value: float
    high: float


@dataclass(frozen=True, slots=True)
class Table:
    """rows: of texts, as many as header. intervals: drawn beside the rows where the form can; one a row, or none;
    intervals_of: what they are of.
    prose: whether cells are texts that may be long, and are broken into lines."""

    title: str
    header: list[str]
    rows: list[list[str]]
    note: str = ""
    intervals: list[Interval | None] = field(default_factory=list)
    intervals_of: str = ""
    prose: bool = False


def plain(value: float | None) -> str:
    """Four digits or all of an integer's, or a dash."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def between(ends: tuple | None) -> str:
    """An interval of shares in words; a bound that is None is none."""
    return "-" if ends is None else " to ".join("no bound" if end is None else percent(end) for end in ends)
