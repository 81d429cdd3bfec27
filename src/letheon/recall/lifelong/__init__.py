"""A lifelong memory with valence, beliefs, and automatic and deliberate recall (Lerma-Torres, arXiv 2603.29023).

The package imports core and the parts of `letheon.recall` (store, embedders, ranking), not its policies.
"""

from __future__ import annotations
