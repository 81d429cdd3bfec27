"""What every wing stands on: models, examples, likelihoods, generation, hooks, training, statistics, runs."""
