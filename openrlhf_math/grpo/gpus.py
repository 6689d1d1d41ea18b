"""Kinds of GPU that a run can be planned for. Imports nothing, so that flags can name them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gpu:
    """A kind of GPU, from its maker's data sheet. Rates are a second, links in one direction.

    memory: bytes. products: operations of dense bfloat16 matrix products. bandwidth: bytes of its memory. link: bytes
    from another GPU of the node. network: bytes from other nodes, a GPU's share. bus: bytes from the host.
    """

    memory: float
    products: float
    bandwidth: float
    link: float
    network: float
    bus: float


GPUS = {
    "a100": Gpu(80e9, 312e12, 2.04e12, 300e9, 25e9, 32e9),
    "h100": Gpu(80e9, 989e12, 3.35e12, 450e9, 50e9, 64e9),
    "h200": Gpu(141e9, 989e12, 4.8e12, 450e9, 50e9, 64e9),
}
