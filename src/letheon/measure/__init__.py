"""The benchmarks of the field (TOFU, MUSE, WMDP, RWKU), their runner, and measures of learned texts and recommenders.

Papers and `letheon bench` use this package; it imports core, the audit's measurements, forget, retain and report.
"""
