"""HyperAttention: attention in near-linear time (arXiv 2310.05869).

`plan` decides which parts of the attention matrix are exact, `hashing` and `tiles` sort and sample for the others,
`kernels` has dense attention, and `fast` joins them. `naive` is the definition, with one weight per pair.

Imports core and attend; `naive` imports nothing of the fast path.
"""

from letheon.attend.hyper.fast import hyper_attention
from letheon.attend.hyper.naive import hyper_attention_naive
from letheon.attend.hyper.plan import computed_pairs
from letheon.attend.hyper.settings import MODEL, PAPER, Settings

__all__ = ["MODEL", "PAPER", "Settings", "computed_pairs", "hyper_attention", "hyper_attention_naive"]
