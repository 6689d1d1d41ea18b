"""The few changes to OpenRLHF that no subclass can make, applied as its modules are imported.

A patch rewrites upstream's syntax tree; it names its target modules, how many places it must find, the
upstream versions it is for, and why it is needed. Importing `openrlhf_math` registers the series in that
process; `openrlhf-math patches` shows it.
"""

from openrlhf_math.patches.hook import SERIES, applied, install
from openrlhf_math.patches.patch import Patch, PatchError

__all__ = ["SERIES", "Patch", "PatchError", "applied", "install"]
