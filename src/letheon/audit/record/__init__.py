"""The audit record: its parts, how they are made from measurements, and the remarks a reader must know.

Everything that writes or reads an audit uses it; imports measurements and criteria."""
