"""Many deletion requests: one after another (FIT), a filter for repeated ones, and sharded training (SISA).

Imports the forget wing and the rooms below it."""
