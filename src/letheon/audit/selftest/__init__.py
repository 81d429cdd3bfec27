"""The audit of the audit: planted fakes that must fail, and a retrained model that must pass.

`letheon selftest` uses this package; it imports the audit's other packages.
"""
