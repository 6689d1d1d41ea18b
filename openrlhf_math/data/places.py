"""Where a set is: a file, a folder of shards, or a name on the Hugging Face hub; its files, and its number of rows."""

import functools
import os
import re
import socket
import sys
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from openrlhf_math.data.sources import SOURCES, Source
from openrlhf_math.data.tables import SUPPORTED, is_table, kind_of
from openrlhf_math.errors import UserError, first_line

SPLITS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
SPLITS |= {"validation": "validation", "valid": "validation", "val": "validation", "dev": "validation"}
WORD = re.compile(r"[a-z]+")
# `train-00001-of-00003.parquet`, as `datasets` and the hub name the parts of a split; `part-0003-of-0010`, `x_1_of_3`.
SHARD = re.compile(r"(?<![0-9])([0-9]{1,6})([-_]of[-_])([0-9]{1,6})(?![0-9])")


@dataclass(frozen=True, slots=True)
class File:
    """A file of a set. name: for people, and for its format. path: where it is."""

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class Place:
    """A set as it is named. place: a path or hub name, "" for that of the known set. split: None if none is named."""

    place: str
    config: str | None
    split: str | None
    source: Source | None


def place_of(spec: str, name: str = "") -> Place:
    """The parts of `PLACE[@CONFIG][:SPLIT]`, or of the name of a known set. name: what the set is called, or ""."""
    if os.path.exists(spec):
        return Place(spec, None, None, SOURCES.get(name))
    place, _, split = spec.partition(":")
    if os.path.isdir(place):
        return Place(place, None, split or None, SOURCES.get(name))
    place, _, config = place.partition("@")
    source: Source | None
    if place in SOURCES and SOURCES[place].hub:
        source, place = SOURCES[place], ""
    else:
        source = SOURCES.get(name) or next((one for one in SOURCES.values() if one.hub and one.hub == place), None)
    return Place(place, config or None, split or None, source)


def is_here(spec: str) -> bool:
    """Whether a set is, or must be, a file or folder of this machine."""
    return os.path.lexists(spec.partition(":")[0]) or spec.startswith((".", "/")) or is_table(spec)


def files_of(place: Place, split: str | None, flag: str = "") -> list[File]:
    """The files of a split, in order. split: where the place names none; None for that of the known set, or train.

    Raises UserError if there are none, or if a folder has other splits than the one asked for.
    """
    shown = f"{flag} {place.place or (place.source.name if place.source else '')}".strip()
    split = place.split or split or (place.source.split if place.source else "train")
    path = Path(place.place)
    if place.place and path.is_file():
        if path.suffix and not is_table(path.name):
            raise UserError(f"{shown} is of no known format; convert it to one ({SUPPORTED})")
        return [File(place.place, place.place)]
    if place.place and path.is_dir():
        if (path / "README.md").is_file():  # a data card may say what is where
            return _listed(place, split, shown)
        return _of_split(path, split, shown)
    if place.place and is_here(place.place):
        raise UserError(f"{shown}: there is no such file or directory")
    return _listed(place, split, shown)


def _of_split(folder: Path, split: str, shown: str) -> list[File]:
    """The files of a folder, of the split if their names or folders say of which they are."""
    within = _within(folder)
    # Beside such a set, `datasets` keeps files that are not of it.
    saved = any(path.name == "state.json" for path in within)
    files = sorted(
        path
        for path in within
        if path.is_file() and is_table(path.name) and not path.name.startswith((".", "cache-"))
        and path.name not in ("state.json", "dataset_info.json", "dataset_dict.json")
        and not (saved and path.suffix != ".arrow")
    )  # fmt: skip
    if not files:
        raise UserError(f"{shown}: there is no file of a known format in it ({SUPPORTED})")
    splits: dict[str, list[Path]] = {}
    asked = SPLITS.get(split, split)
    for file in files:
        splits.setdefault(_split_of(file.relative_to(folder), asked), []).append(file)
    if set(splits) == {""}:
        chosen = files
    elif asked in splits and "" not in splits:
        chosen = splits[asked]
    else:
        others = f", and files of none, as {splits[''][0].name}" if "" in splits else ""
        found = ", ".join(sorted(filter(None, splits)))
        raise UserError(
            f"{shown} has the splits {found}{others}; name one of them in place of '{split}', or give a file"
        )
    check_complete([str(file.relative_to(folder)) for file in chosen], shown)
    _check_once([file.relative_to(folder) for file in chosen], folder, shown)
    return [File(str(file), str(file)) for file in chosen]


def _within(folder: Path) -> list[Path]:
    """All that is in a folder, also behind links to folders; a folder that leads back to itself is entered once."""
    entered: set[tuple[int, int]] = set()
    found: list[Path] = []
    for here, folders, names in os.walk(folder, followlinks=True):
        status = os.stat(here)
        if (status.st_dev, status.st_ino) in entered:
            folders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        folders.sort()
        found += [Path(here, name) for name in names]
    return found


def _check_once(names: Sequence[Path], folder: Path, shown: str) -> None:
    """Raise UserError if two names lead to one file, for example through a link: its rows would count twice."""
    known: dict[tuple[int, int], Path] = {}
    for name in names:
        status = os.stat(folder / name)
        other = known.setdefault((status.st_dev, status.st_ino), name)
        if other != name:
            raise UserError(f"{shown} has one file under two names, {other} and {name}; remove one of them")


def check_complete(names: Sequence[str], shown: str) -> None:
    """Raise UserError if a shard is missing that the names of the others, `train-00000-of-00003`, imply."""
    found: dict[tuple[str, int], set[int]] = {}
    for name in names:
        if match := SHARD.search(name):
            pattern = f"{name[: match.start()]}*{match[2]}{match[3]}{name[match.end() :]}"
            found.setdefault((pattern, int(match[3])), set()).add(int(match[1]))
    for (pattern, total), numbers in found.items():
        first = 0 if 0 in numbers else 1  # some count from 1
        if not numbers >= set(range(first, first + total)):
            raise UserError(
                f"{shown} has {len(numbers)} of the {total} files {pattern}; get the others, or rename these if "
                "they are all"
            )


def _split_of(path: Path, asked: str) -> str:
    """The split that a file's name, or a folder in front of it, says; "" for none. asked: may be a set's own."""
    for part in reversed(path.parts):
        found = {SPLITS.get(word, word) for word in WORD.findall(part.lower()) if word in SPLITS or word == asked}
        if len(found) == 1:
            return found.pop()
    return ""


def _listed(place: Place, split: str, shown: str) -> list[File]:
    """The files of a dataset with a card, on the hub or in a folder, as its card lists them."""
    import datasets

    known = place.source if place.source and not os.path.isdir(place.place) else None
    configs: Sequence[str | None] = [place.config] if place.config else known.configs if known else ()
    name = place.place or (known.hub if known else "")
    found: list[File] = []
    if not os.path.isdir(name):
        give_up_soon_without_network()
    try:
        for config in configs or (None,):
            builder = datasets.load_dataset_builder(name, config)
            listed = builder.config.data_files
            if listed is None:  # without network: what was prepared before
                paths = [one["filename"] for one in datasets.load_dataset(name, config, split=split).cache_files]
                found += [File(path, path) for path in paths]
                continue
            if split not in listed:
                raise UserError(f"{shown} has no split '{split}', only {', '.join(map(str, listed))}")
            names = [str(one) for one in listed[split]]
            paths = datasets.DownloadManager().download(names)
            found += [File(one, path) for one, path in zip(names, paths, strict=True)]
    except UserError:
        raise
    except Exception as error:  # the library's own errors have no common class
        if missing := why_missing(name, error, "dataset"):
            raise UserError(f"{shown or name}: {missing}") from error
        raise UserError(
            f"{shown or name}: cannot be read as a dataset ({first_line(error)}); its files can be given instead"
        ) from error
    if os.path.isdir(place.place):
        check_complete([os.path.relpath(file.name, place.place) for file in found], shown)
    if strange := next((file.name for file in found if not is_table(file.name)), None):
        raise UserError(f"{shown or name}: {strange} is of no known format; convert it to one ({SUPPORTED})")
    return found


PATIENCE_SECONDS = 4.0


def give_up_soon_without_network() -> None:
    """Where the hub cannot be reached, let its libraries use what they have on disk, and say at once what they lack.

    Left alone they ask six times, for half a minute. They read the environment once, when they are imported, so the
    constants of those that are imported already are set, too. HF_HUB_OFFLINE of the user is respected, 0 as well as 1.
    Behind a proxy nothing is tried, since only the proxy could tell.
    """
    proxied = any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"))
    if "HF_HUB_OFFLINE" in os.environ or proxied or _reachable(os.environ.get("HF_ENDPOINT", "https://huggingface.co")):
        return
    os.environ["HF_HUB_OFFLINE"] = "1"
    for name in ("huggingface_hub.constants", "datasets.config"):
        if module := sys.modules.get(name):
            vars(module)["HF_HUB_OFFLINE"] = True


def why_missing(name: str, error: BaseException, kind: str = "model") -> str | None:
    """Why a hub name could not be loaded, and the fix, if the hub is out of reach; None for any other error.

    error: of transformers or datasets, which raise it from one of the hub. kind: model or dataset.
    """
    from huggingface_hub.errors import LocalEntryNotFoundError

    cause: BaseException | None = error
    while cause and not isinstance(cause, (LocalEntryNotFoundError, ConnectionError)):
        cause = cause.__cause__ or cause.__context__
    if cause is None or os.path.isdir(name):
        return None
    download = f"hf download {'' if kind == 'model' else f'--repo-type {kind} '}{name}"
    return (
        "it is not in the local cache, and the Hugging Face hub is out of reach (no network, or HF_HUB_OFFLINE is "
        f"set); download it where there is a network (`{download}`), or give its files"
    )


@functools.cache  # each command asks for several names
def _reachable(url: str) -> bool:
    place, found = urlsplit(url), threading.Event()

    def knock() -> None:
        try:
            address = place.hostname, place.port or (80 if place.scheme == "http" else 443)
            socket.create_connection(address, timeout=PATIENCE_SECONDS).close()
            found.set()
        except OSError:
            pass

    # In a thread, since looking a name up has no time limit.
    knocking = threading.Thread(target=knock, daemon=True)
    knocking.start()
    knocking.join(PATIENCE_SECONDS)
    return found.is_set()


class Extent:
    """Parquet says how many rows it has. Of other files, the share of their bytes that is read gives about how many.

    The reader of the set says which files there are and opens each through it.
    """

    def __init__(self) -> None:
        self._exact: int | None = None
        self._sizes: dict[str, int] = {}
        self._before = 0  # bytes of the files that are done
        self._open: tuple[str, BinaryIO] | None = None

    def begin(self, files: Iterable[File]) -> None:
        files = list(files)
        self._sizes = {file.path: os.path.getsize(file.path) for file in files}
        if all(kind_of(file.name) == ("parquet", None) for file in files):
            self._exact = _rows_of_parquet(files)

    def opened(self, path: str, file: BinaryIO) -> None:
        """The next file is being read."""
        if self._open:
            self._before += self._sizes[self._open[0]]
        self._open = path, file

    def rows(self, read: int) -> int:
        """About how many rows there are, 0 where nothing says so. read: how many have been read."""
        if self._exact is not None:
            return self._exact
        if not self._open:
            return 0
        path, file = self._open
        done = self._before + (self._sizes[path] if file.closed else min(file.tell(), self._sizes[path]))
        return round(read * sum(self._sizes.values()) / done) if done else 0


def _rows_of_parquet(files: Iterable[File]) -> int | None:
    """None where a file is damaged, which reading it will say."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        return None
    try:
        return sum(parquet.read_metadata(file.path).num_rows for file in files)
    except (ArrowException, OSError):
        return None
