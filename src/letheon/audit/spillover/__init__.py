"""Refusals in other domains before and after narrow unlearning, and the similarity of the domains' concepts.

`letheon spillover` and papers use this package; it imports core, probe, the audit's measurements and the report kit.
"""
