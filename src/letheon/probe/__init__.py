"""Tools that look inside a model: tracing, patching, linear probes, sparse autoencoders, multiple-choice questions.

forget, retain, audit and steer use it. Imports core and report."""
