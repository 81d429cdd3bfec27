"""The audit of the audit: planted fakes that must fail, and a retrained model that must pass.

Imports the audit's other rooms."""
