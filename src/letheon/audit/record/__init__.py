"""The audit record: its sections, the measurements they are made from, and the warnings for its reader.

Code that writes or reads an audit uses this package; it imports the measurements and the criteria.
"""
