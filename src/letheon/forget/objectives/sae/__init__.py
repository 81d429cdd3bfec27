"""SAE unlearning: the objective, its loss, the request's entities, and the space in which distances are measured.

Imports forget's parts and the packages below forget.
"""

from letheon.forget.objectives.sae import objective as objective
