"""RWKU: real people to be forgotten; three levels of probe, nine attacks, four membership tests, utility."""

from letheon.measure.rwku.benchmark import RWKU, read_rwku

__all__ = ["RWKU", "read_rwku"]
