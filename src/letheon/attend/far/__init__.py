"""Far attention (ours): exact attention to near keys and to the chunks of far keys that a block of queries needs.

`choosing` scores the chunks; tiles, kernels and gradients are those of `letheon.attend.hyper`.

Imports core and attend.
"""

from letheon.attend.far.fast import far_attention, far_pairs
from letheon.attend.far.settings import FAR, Settings

__all__ = ["FAR", "Settings", "far_attention", "far_pairs"]
