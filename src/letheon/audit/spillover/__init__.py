"""Refusals in other domains before and after narrow unlearning, and how alike the domains' concepts are.

Imports core, the audit's measurements and the report kit."""
