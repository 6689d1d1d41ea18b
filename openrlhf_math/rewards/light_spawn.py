"""A multiprocessing context whose processes start light: a new interpreter that does not import `__main__` again.

Plain "spawn" and "forkserver" import the parent's main module in every child. In a Ray worker that is all of Ray, in
a user's script without an `if __name__ == "__main__"` it runs the script again.
"""

import os
import threading
from multiprocessing import context, popen_spawn_posix, spawn

from openrlhf_math.rewards.nameless_lock import NamelessLock

_this_thread = threading.local()
_preparation_data = spawn.get_preparation_data


def _light_preparation_data(name: str) -> dict:
    data = _preparation_data(name)
    if getattr(_this_thread, "starts_light", False):
        data.pop("init_main_from_name", None)
        data.pop("init_main_from_path", None)
    return data


# The standard library has no seam for this; for every other process in every other thread nothing changes.
spawn.get_preparation_data = _light_preparation_data


class _LightPopen(popen_spawn_posix.Popen):
    def _launch(self, process_obj) -> None:
        _this_thread.starts_light = True
        try:
            super()._launch(process_obj)
        finally:
            _this_thread.starts_light = False


class _LightProcess(context.SpawnProcess):
    @staticmethod
    def _Popen(process_obj) -> _LightPopen:
        return _LightPopen(process_obj)


class LightSpawnContext(context.SpawnContext):
    """As `multiprocessing.get_context("spawn")`, without the import of `__main__` and with locks that have no name."""

    Process = _LightProcess

    def RLock(self):
        return NamelessLock() if hasattr(os, "eventfd") else super().RLock()  # only Linux has eventfd
