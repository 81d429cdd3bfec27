"""Rows of data: reading them from files, encoding them as tokens and batches, and drawing their order.

May be imported by every package; imports core alone."""
