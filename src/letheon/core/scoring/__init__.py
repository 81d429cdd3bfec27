"""Scoring a model on rows: likelihoods, generated answers, values within answers, refusals.

May be imported by every package; imports core alone."""
