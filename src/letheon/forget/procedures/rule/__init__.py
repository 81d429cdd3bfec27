"""RULE: refuse questions about the target and answer all others, learned by reinforcement.

`reinforce` is the procedure; its settings, rewards, boundary questions, stored state and TRL engine stand beside it.

Imports forget's parts and the packages below forget.
"""

from letheon.forget.procedures.rule import reinforce as reinforce
