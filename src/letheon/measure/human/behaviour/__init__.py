"""Content and the behaviour of its audience, each simulated from the other (LCBM).

The package imports core and `letheon.measure` (asking, scenes, tuning).
"""

from __future__ import annotations
