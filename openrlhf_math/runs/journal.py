"""The journal of attempts: a killed run keeps what it has recorded.

One JSON line an attempt. A thread writes the lines and forces them to the disk, all that have come since its last
batch at once, so that a writer never waits for the disk. Texts stay in the file: memory holds where each line is,
so that a journal may be larger than memory.
"""

import contextlib
import fcntl
import json
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from openrlhf_math.data import chat_date
from openrlhf_math.data.files import write_json
from openrlhf_math.errors import UserError

# Between the ends of one batch and the next. A kill loses what was appended since the last batch, no more.
BATCH_SECONDS = 0.05
# Bytes that wait to be written at the most: a disk slower than the replies slows them down, and memory stays bounded.
MOST_WAITING = 64 << 20


@contextlib.contextmanager
def refused_if_unwritable(output: Path) -> Iterator[None]:
    """Turn a failure to write into a sentence."""
    try:
        yield
    except OSError as error:
        if output.exists() and not output.is_dir():
            raise UserError(f"--output {output} is a file; give the name of a directory") from None
        raise UserError(
            f"--output {output} cannot be written ({error.strerror or error}); correct that and run the command again, "
            "what is in the journal is kept"
        ) from error


def open_journal(
    output: Path,
    settings: dict,
    changed: Mapping[str, str] = MappingProxyType({}),
    fix: str = "choose a new directory",
    files: tuple[str, str] = ("config.json", "journal.jsonl"),
) -> "Journal":
    """The journal of a run in `output`, which is created if it is missing, next to the settings of its first run.

    settings: what decides the attempts, by the name of the flag; a value may be a dict by name. changed: what to say
    of settings that are not flags, a sentence without its subject; `{name}` is that of a dict. files: of the settings
    and of the attempts. Raises UserError if it holds attempts of other settings, or cannot be written.
    """
    config, here = output / files[0], json.loads(json.dumps(settings))
    if config.exists():  # before anything is made in a directory that is another's
        _check_same(config, here, changed, fix)
    with refused_if_unwritable(output):
        output.mkdir(parents=True, exist_ok=True)
        journal = Journal(output / files[1])
    try:
        if config.exists():  # now that no other process writes it
            there = _check_same(config, here, changed, fix)
            if there.get(chat_date.KEY) or not here.get(chat_date.KEY):
                return journal
            here = there | {chat_date.KEY: here[chat_date.KEY]}  # of an earlier version, with the date that was given
        with refused_if_unwritable(output):
            write_json(config, here)
    except BaseException:
        journal.close()
        raise
    return journal


def same_setting(was: object, now: object) -> bool:
    """Whether two values of a setting are equal, or two spellings of one place, as `model` and `/runs/model` are."""
    if was == now:
        return True
    try:
        return isinstance(was, str) and isinstance(now, str) and os.path.samefile(was, now)
    except (OSError, ValueError):
        return False


def _check_same(config: Path, here: dict, changed: Mapping[str, str], fix: str) -> dict:
    """The settings that are there. Raises UserError if they are others."""
    try:
        there = dict(json.loads(config.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{config} cannot be read ({error}); choose another --output") from None
    different = [name for name in there | here if not same_setting(there.get(name), here.get(name))]
    different = [name for name in different if name != chat_date.KEY]  # `chat_date.settle` has compared it
    if not different:
        return there
    flag = min(different, key=lambda name: name in changed)  # a flag first, if there is one
    was, now, name = there.get(flag), here.get(flag), ""
    if isinstance(was, dict) and isinstance(now, dict):
        name = next(name for name in was | now if was.get(name) != now.get(name))
        was, now = was.get(name), now.get(name)
    if flag in changed:
        raise UserError(f"--output {config.parent} {changed[flag].format(name=name)}; {fix}")
    raise UserError(
        f"--output {config.parent} holds attempts of other settings (--{flag.replace('_', '-')} was {was!r:.60}, "
        f"is {now!r:.60}); use the same, or {fix}"
    )


class Journal:
    """Attempts by (problem key, attempt number), append-only, held by one process at a time.

    What is appended is on the disk `BATCH_SECONDS` and the time of two writes later, or after `flush` or `close`.
    Raises UserError if another process holds it, or for a line that is broken other than by a kill.
    """

    def __init__(self, path: Path, flag: str = "--output") -> None:
        """flag: that names its directory."""
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._places, self._end = self._scan()
        except BlockingIOError:
            os.close(self._file)
            raise UserError(f"{flag} {path.parent}: another process writes there; wait until it ends") from None
        except UserError:
            os.close(self._file)
            raise
        os.ftruncate(self._file, self._end)  # the line a kill tore off: its attempt is asked again
        self._lock = threading.Condition()  # of what follows; callers that wait for the disk wait on it
        self._waiting: list[bytes] = []
        self._written = self._end  # bytes on the disk
        self._failure: BaseException | None = None
        self._arrived, self._hurry = threading.Event(), threading.Event()
        self._closing = False
        self._writer: threading.Thread | None = None

    def __contains__(self, name: tuple[str, int]) -> bool:
        return name in self._places

    def __len__(self) -> int:
        return len(self._places)

    def append(self, key: str, attempt: int, record: dict) -> None:
        """Have one attempt written by the next batch. Raises UserError if an earlier one could not be."""
        if (key, attempt) in self._places:
            raise ValueError(f"attempt {attempt} at {key} is in the journal already")
        line = json.dumps({"key": key, "attempt": attempt} | record).encode() + b"\n"
        if self._end - self._written > MOST_WAITING:
            self.flush()
        with self._lock:
            self._check()
            self._waiting.append(line)
            self._places[key, attempt] = (self._end, len(line))
            self._end += len(line)
        self._arrived.set()
        if self._writer is None:
            self._writer = threading.Thread(target=self._write_batches, name="journal", daemon=True)
            self._writer.start()

    def flush(self) -> None:
        """Wait until all that was appended is on the disk. Raises UserError if it cannot be."""
        with self._lock:
            end = self._end
            self._hurry.set()
            self._lock.wait_for(lambda: self._failure or self._written >= end)
            self._check()

    def read(self, key: str, attempt: int) -> dict:
        """The record of an attempt. Raises KeyError if there is none."""
        start, length = self._places[key, attempt]
        if start + length > self._written:
            self.flush()
        return json.loads(os.pread(self._file, length, start))

    def close(self) -> None:
        """Raises UserError if what was appended could not be written."""
        try:
            self.flush()
        finally:
            self._closing = True
            self._hurry.set()
            self._arrived.set()
            if self._writer:
                self._writer.join()
            os.close(self._file)

    def _check(self) -> None:
        if self._failure:
            with refused_if_unwritable(self._path.parent):
                raise self._failure

    def _write_batches(self) -> None:
        """What the thread does: a batch, a pause, the next one."""
        while True:
            self._arrived.wait()
            self._arrived.clear()
            if self._closing:
                return
            with self._lock:
                lines, self._waiting = self._waiting, []
            try:
                self._write(b"".join(lines))
            except BaseException as error:  # callers that wait for the disk must get any error
                with self._lock:
                    self._failure = error
                    self._lock.notify_all()
                return
            with self._lock:
                self._written += sum(map(len, lines))
                self._lock.notify_all()
            self._hurry.wait(BATCH_SECONDS)
            self._hurry.clear()

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(self._file, left) :]
        os.fdatasync(self._file)

    def _scan(self) -> tuple[dict[tuple[str, int], tuple[int, int]], int]:
        """Where each attempt's line is, and where the last whole line ends."""
        places: dict[tuple[str, int], tuple[int, int]] = {}
        end = 0
        with self._path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    break
                try:
                    record = json.loads(line)
                    name = (record["key"], record["attempt"])
                except (ValueError, KeyError, TypeError):
                    raise UserError(
                        f"{self._path}:{number}: the line is not an attempt; delete it, and it is asked again"
                    ) from None
                if name in places:
                    raise UserError(f"{self._path}:{number}: that attempt is there twice; delete one of the lines")
                places[name] = (end, len(line))
                end += len(line)
        return places, end
