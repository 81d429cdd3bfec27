"""Sparse autoencoders: the autoencoder itself, and its training on activations.

Imports core alone."""
