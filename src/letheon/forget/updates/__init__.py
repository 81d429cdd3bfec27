"""Ways to turn the forget and retain gradients into one step: one file per update."""
