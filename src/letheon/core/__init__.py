"""What every wing stands on: errors, the register of methods, run folders; models, rows, scoring, training.

May import only itself."""
