"""Memory that was freed goes back to the system."""

from openrlhf_math.colocation import layout
from openrlhf_math.colocation.layout import HeapTrimmer

MIB = 2**20


def test_freed_memory_below_used_blocks_is_returned():
    trim = HeapTrimmer(growth=1.0)
    blocks = [bytearray(64_000) for _ in range(4000)]  # 244 MiB, each too small for a separate mapping
    before = layout.used_bytes("cpu")
    del blocks[:-1]
    assert trim()
    assert layout.used_bytes("cpu") < before - 150 * MIB


def test_trimming_waits_until_the_heap_grows(monkeypatch):
    used = iter([100, 120, 126, 100, 120])
    monkeypatch.setattr(layout, "used_bytes", lambda device: next(used))
    trim = HeapTrimmer(growth=1.25)
    assert trim(), "the first time, to know how small it can be: 100"
    assert not trim(), "120"
    assert trim(), "126"
    assert not trim(), "120 again"
