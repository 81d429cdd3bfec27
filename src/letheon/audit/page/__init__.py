"""The page of an audit: its template, its figures, its table of rows.

Imports the audit record and the report kit."""
