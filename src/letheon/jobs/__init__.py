"""What the commands do with the library: gather, check before a model is loaded, run. Used by the command line only."""
