"""What is measured on one model: answers, metrics, membership, rounding, detection, continued learning.

The audit's run, benchmarks and papers use it; imports core, probe, forget and retain."""
