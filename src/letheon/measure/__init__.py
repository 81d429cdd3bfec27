"""Measure: the benchmarks of the field."""
