"""The kinds of statements that answers are read into; sets of real numbers are in `regions`."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias, Union

from openrlhf_math.rewards.measures import Measure

if TYPE_CHECKING:
    from openrlhf_math.rewards.regions import Region

Statement: TypeAlias = Union["Expression", "Relation", "Items", "Tagged", "Where", "Pieces", "Region"]


@dataclass(frozen=True, slots=True)
class Expression:
    """One value. `decimal`: its digits behind the point and its significant digits, if it is written as a decimal."""

    tree: tuple
    measure: Measure | None = None
    percent: bool = False
    decimal: tuple[int, int] | None = None
    degrees: bool = False
    text: str = ""


@dataclass(frozen=True, slots=True)
class Relation:
    """`a < b <= c`: the sides as texts and as statements (None where one is not a statement), and the signs between."""

    texts: tuple[str, ...]
    signs: tuple[str, ...]

    @property
    def is_equation(self) -> bool:
        return set(self.signs) <= {"=", "~"}


@dataclass(frozen=True, slots=True)
class Items:
    """Several statements: `kind` is "list", "set" or "tuple". `joint` is "or", "and" or ","."""

    kind: str
    items: tuple[Statement, ...]
    brackets: str = ""
    joint: str = ","
    where: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tagged:
    """What is equal only to its own kind: a clock, a ratio, a numeral in a base, a residue, words."""

    kind: str
    content: tuple


@dataclass(frozen=True, slots=True)
class Pieces:
    """A function in pieces: the name it is given or "", and a value with a condition for each."""

    name: str
    pieces: tuple[tuple[Statement, str], ...]


@dataclass(frozen=True, slots=True)
class Where:
    """A statement under a condition: `2k\\pi, k \\in \\mathbb{Z}`."""

    main: Statement
    conditions: tuple[str, ...] = field(default=())
