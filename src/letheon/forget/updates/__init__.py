"""How the forget and retain gradients become one step: one file an update."""
