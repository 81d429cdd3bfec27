"""A lifelong memory with valence, beliefs, and automatic and deliberate recall.

Paper: Lerma-Torres, Human-Like Lifelong Memory, arXiv 2603.29023. Import `letheon.recall.lifelong.memory`.
"""

from __future__ import annotations
