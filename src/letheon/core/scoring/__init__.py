"""What a model says of rows: likelihoods, generated answers, values in answers, refusals.

May be imported by every room; imports core alone."""
