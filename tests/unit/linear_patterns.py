r"""Whether a regular expression can take more than linear time, read from its syntax tree.

Python's engine backtracks, so a pattern is accepted only if backtracking gains it nothing:

* a run, `[a-z]*`, and what follows it share no character, or nothing follows that could fail;
* a repeated group has branches that begin differently, does not match the empty text, and the runs in it share no
  character with what follows them, the group's own next turn included;
* a search does not start again inside a run: the pattern is anchored by `\A`, or what comes before the run has a
  character that the run has not.

A repeat of at most `BOUND` is a constant factor. The check is sufficient, not necessary.
"""

import re

try:
    from re import _constants as C
    from re import _parser
except ImportError:  # Python 3.10
    import sre_constants as C
    import sre_parse as _parser

BOUND = 64
_ALPHABET = frozenset(map(chr, range(0x250))) | frozenset("πθ−²₂½√∞≤中Ⅴ\u2028\u3000")
_REPEATS = (C.MAX_REPEAT, C.MIN_REPEAT)
_CATEGORIES = {
    C.CATEGORY_DIGIT: r"\d", C.CATEGORY_NOT_DIGIT: r"\D", C.CATEGORY_SPACE: r"\s", C.CATEGORY_NOT_SPACE: r"\S",
    C.CATEGORY_WORD: r"\w", C.CATEGORY_NOT_WORD: r"\W",
}  # fmt: skip


def faults(pattern: re.Pattern) -> list[str]:
    """What could make a pattern take more than linear time; empty if nothing can."""
    return _Check(list(_parser.parse(pattern.pattern, pattern.flags)), pattern.flags).faults


class _Check:
    def __init__(self, tree: list, flags: int) -> None:
        self.flags, self.faults = flags, []
        self.anchored = bool(tree) and tree[0] == (C.AT, C.AT_BEGINNING_STRING)
        self.sequence(tree, [], [], False)

    def sequence(self, nodes: list, before: list[frozenset], after: list, looped: bool) -> None:
        """before: characters that must have come; after: what follows; looped: inside a repeated group."""
        before = list(before)
        for index, (kind, value) in enumerate(nodes):
            rest = list(nodes[index + 1 :]) + after
            if (characters := self.characters(kind, value)) is not None:
                before.append(characters)
            elif kind in _REPEATS:
                self.repeat(value[1], list(value[2]), before, rest, looped)
                before += self.required(value[2]) if value[0] else []
            elif kind is C.SUBPATTERN:
                self.sequence(list(value[3]), before, rest, looped)
                before += self.required(value[3])
            elif kind is C.BRANCH:
                self.branches(value[1], before, rest, looped)
            elif kind in (C.ASSERT, C.ASSERT_NOT):
                if kind is C.ASSERT_NOT and value[0] < 0 and len(value[1]) == 1:
                    excluded = self.characters(*value[1][0])
                    before += [_ALPHABET - excluded] if excluded else []
                self.sequence(list(value[1]), before, [], looped)

    def branches(self, branches: list, before: list, rest: list, looped: bool) -> None:
        seen: set[str] = set()
        for branch in branches:
            begins = self.first(branch)
            if looped and seen & begins:
                self.fault("branches of a repeated group begin alike", seen & begins)
            seen |= begins
            self.sequence(list(branch), before, rest, looped)

    def repeat(self, most: int, body: list, before: list, rest: list, looped: bool) -> None:
        while len(body) == 1 and body[0][0] is C.SUBPATTERN:
            body = list(body[0][1][3])
        run = self.characters(*body[0]) if len(body) == 1 else None
        ends = not looped and _cannot_fail(rest)
        if run is not None:
            if (most > BOUND or looped) and not ends and run & self.first(rest):
                self.fault("a run and what follows share characters", run & self.first(rest))
            if most > BOUND and not ends:
                if rest and rest[0][0] in (C.ASSERT, C.ASSERT_NOT):
                    self.fault("an assertion follows a run", run)
                self.restart(run, before)
            return
        shared = self.first(body) & self.first(rest)
        if most <= 1:
            if looped and shared:
                self.fault("an optional group and what follows begin alike", shared)
            self.sequence(body, before, rest, looped)
            return
        if _may_be_empty(body):
            self.fault("a repeated group may be empty", set())
        if shared and not _cannot_fail(rest) and _has_runs(rest):
            self.fault("a repeated group and what follows begin alike", shared)
        self.sequence(body, before, body + rest, True)
        if most > BOUND and not ends:
            self.restart(self.all_characters(body), before)

    def restart(self, run: frozenset, before: list[frozenset]) -> None:
        if not self.anchored and all(run & characters for characters in before):
            self.fault("a search starts again inside a run", run)

    def fault(self, sentence: str, characters) -> None:
        self.faults.append(f"{sentence}: {sorted(characters)[:4]}")

    def characters(self, kind, value) -> frozenset | None:
        """The characters of a node that matches exactly one; None for other nodes."""
        if kind is C.LITERAL:
            return self.cased({chr(value)})
        if kind is C.NOT_LITERAL:
            return _ALPHABET - self.cased({chr(value)})
        if kind is C.ANY:
            return _ALPHABET if self.flags & re.DOTALL else _ALPHABET - {"\n"}
        if kind is C.BRANCH:
            found = [self.characters(*branch[0]) if len(branch) == 1 else None for branch in value[1]]
            if not all(found) or sum(map(len, found)) > len(frozenset().union(*found)):
                return None
            return frozenset().union(*found)
        if kind is not C.IN:
            return None
        found: set[str] = set()
        for part, what in value:
            if part is C.LITERAL:
                found |= {chr(what)}
            elif part is C.RANGE:
                found |= {sign for sign in _ALPHABET if what[0] <= ord(sign) <= what[1]}
            elif part is C.CATEGORY:
                found |= set(filter(re.compile(_CATEGORIES[what]).match, _ALPHABET))
        found = self.cased(found)
        return _ALPHABET - found if value[0][0] is C.NEGATE else frozenset(found)

    def cased(self, signs: set[str]) -> frozenset:
        if self.flags & re.IGNORECASE:
            signs = signs | {other for sign in signs for other in (sign.lower(), sign.upper())}
        return frozenset(signs)

    def required(self, nodes) -> list[frozenset]:
        return [found for node in nodes if (found := self.characters(*node)) is not None]

    def first(self, nodes) -> frozenset:
        """The characters that a sequence can begin with."""
        found: set[str] = set()
        for kind, value in nodes:
            if (characters := self.characters(kind, value)) is not None:
                return frozenset(found | characters)
            for inner in _inside(kind, value):
                found |= self.first(inner)
            if not _may_be_empty([(kind, value)]):
                break
        return frozenset(found)

    def all_characters(self, nodes) -> frozenset:
        found: set[str] = set()
        for kind, value in nodes:
            found |= self.characters(kind, value) or set()
            for inner in _inside(kind, value):
                found |= self.all_characters(inner)
        return frozenset(found)


def _inside(kind, value) -> list:
    if kind in _REPEATS:
        return [value[2]]
    if kind is C.SUBPATTERN:
        return [value[3]]
    return value[1] if kind is C.BRANCH else []


def _may_be_empty(nodes) -> bool:
    for kind, value in nodes:
        if kind in (C.AT, C.ASSERT, C.ASSERT_NOT) or kind in _REPEATS and value[0] == 0:
            continue
        inner = _inside(kind, value)
        if not inner or not any(map(_may_be_empty, inner)):
            return False
    return True


def _cannot_fail(nodes) -> bool:
    for kind, value in nodes:
        if kind in _REPEATS and value[0] == 0:
            continue
        inner = _inside(kind, value) if kind not in _REPEATS else []
        if not inner or not any(map(_cannot_fail, inner)):
            return False
    return True


def _has_runs(nodes) -> bool:
    for index, (kind, value) in enumerate(nodes):
        if kind in _REPEATS and value[1] > BOUND and not _cannot_fail(nodes[index + 1 :]):
            return True
        if any(map(_has_runs, _inside(kind, value))):
            return True
    return False
