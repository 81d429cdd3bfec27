"""Gated-SwinRMT: attention in shifted windows that decays with Manhattan distance, and an input-dependent gate.

Paper:   Gated-SwinRMT: Unifying Swin Windowed Attention with Retentive Manhattan Decay via Input-Dependent Gating,
         arXiv 2604.06014. We read its abstract alone, and no code is public; the rest is put together from its
         parts: RMT (CVPR 2024), Swin, SWAT, and gated attention (arXiv 2505.06708) [inferred].
Does:    a pass along the rows of a window, then one down its columns, with the same queries and keys; after both, what
         lies |dx| and |dy| away has faded by γ^(|dx| + |dy|). "retention": softmax of score + distance ln γ, and a
         sigmoid gate of the block's input before the last projection. "swat": sigmoid(score + slope offset) γ^distance,
         half of the slopes negative, values gated by SiLU, and a norm of the output in place of the softmax's.
Differs: [inferred] rotary positions count cells within the window; a window is fitted to rows and columns one by one;
         the norm of "swat" is RMS by head (or the sum of a row). Widths and depths are ours, between those of RMT-B and
         RMT-L, so that all three models have the published 77 to 79 million parameters; the paper's were not seen.

`retention` has the masks and both passes, `windows` cuts the map, `model` puts gates and blocks around them.

Imports core and attend.
"""

from letheon.attend.gated_swinrmt.model import GatedRetention as GatedRetention
from letheon.attend.gated_swinrmt.model import GatedSwinRMT as GatedSwinRMT
from letheon.attend.gated_swinrmt.model import gate_maps as gate_maps
from letheon.attend.gated_swinrmt.retention import Axis as Axis
from letheon.attend.gated_swinrmt.retention import log_decay as log_decay
from letheon.attend.gated_swinrmt.settings import SIZES as SIZES
from letheon.attend.gated_swinrmt.settings import Settings as Settings
