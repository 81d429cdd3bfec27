"""SAE unlearning: the objective, its loss, the request's entities, and the space in which distances are measured."""

from letheon.forget.objectives.sae import objective as objective
