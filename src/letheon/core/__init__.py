"""The foundation of all packages: models, rows, scoring, training, run folders, errors, the registry of methods.

May import only itself."""
