"""NormGenesis: dialogues that keep, break or repair a social norm: their structure, and a pipeline that writes them.

The package imports core and `letheon.measure.asking`.
"""

from letheon.measure.normgenesis.pipeline import NormGenesis, read_normgenesis

__all__ = ["NormGenesis", "read_normgenesis"]
