"""RULE: refuse what is asked about the target and answer everything else, learned by reinforcement.

The method is in `reinforce`; its rewards, its boundary questions, its stored state and its TRL engine stand beside it.
Imports core and the forget wing's parts.
"""

from letheon.forget.procedures.rule import reinforce as reinforce
