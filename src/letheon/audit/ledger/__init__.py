"""The ledger of deletion requests: append-only, hash-chained, without personal data (`letheon ledger`).

`store` keeps the entries, `chain` proves them whole, `recording` writes what a deletion or an audit did, `cases` reads
where each request stands, `recheck` asks a later model again, `derivatives` knows which copies still hold the data.

Imports the audit and the packages below it.
"""
