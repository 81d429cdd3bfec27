"""Measurements of one model: answers, metrics, membership, rounding, detection, continued learning.

The audit's run, benchmarks and papers use this package; it imports core, probe, forget and retain.
"""
