"""Steering: change what a model does at inference, by maps on its activations, without training its weights.

`steering` holds the artefact, `apply` puts it on a model, `bake` writes it into weights, `curve` weighs its effect
against its side effects; `methods/` has one file per method. The package imports core, report and probe.
"""
