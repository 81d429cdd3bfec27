"""Looking inside a model: tracing, patching, linear probes, sparse autoencoders, questions with options.

The wings (forget, retain, audit, steer) use it; imports core and report."""
