"""Rows of data: reading them from files, turning them into tokens and batches, and drawing which rows come when.

May be imported by every room; imports core alone."""
