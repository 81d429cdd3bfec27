"""Human ratings and a model's: norm tables, ratings read from token probabilities, agreement, probes, fine-tuning.

The package imports core, probe and `letheon.measure.asking`.
"""
