"""Plans of the rows of each step: one file per sampler."""
