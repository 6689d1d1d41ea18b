"""What a check hands back."""

from dataclasses import dataclass

LEVELS = ("ok", "note", "wrong")


@dataclass(frozen=True)
class Finding:
    """One row.

    level: "ok", "note" (works, but limits something) or "wrong" (a command will fail).
    fix: what to do about it, in one sentence; empty where nothing need be done.
    """

    check: str
    level: str
    found: str
    fix: str = ""

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise ValueError(f"level {self.level!r} is none of {', '.join(LEVELS)}")
        if (self.level == "ok") == bool(self.fix):
            raise ValueError(f"{self.check}: a fix goes with 'note' and 'wrong', and only with these")


def ok(check: str, found: str) -> Finding:
    return Finding(check, "ok", found)


def note(check: str, found: str, fix: str) -> Finding:
    return Finding(check, "note", found, fix)


def wrong(check: str, found: str, fix: str) -> Finding:
    return Finding(check, "wrong", found, fix)


def gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"
