"""The page of an audit: its template, its figures, its table of rows.

The audit's run and `letheon report` use this package; it imports the audit record and the report kit.
"""
