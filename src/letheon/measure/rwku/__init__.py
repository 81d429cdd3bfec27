"""RWKU: real people to forget; three levels of probes, nine attacks, four membership tests, utility.

`read_rwku` reads the data and gives the benchmark; the package imports core, the audit's measurements and `measure`.
"""

from letheon.measure.rwku.benchmark import RWKU, read_rwku

__all__ = ["RWKU", "read_rwku"]
