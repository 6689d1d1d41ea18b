"""The few changes to OpenRLHF that no subclass can make, applied as its modules are imported."""


def install() -> None:
    """Register the series in this process."""
