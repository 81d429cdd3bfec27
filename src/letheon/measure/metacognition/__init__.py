"""Metacognition: does a model withdraw the answers that are wrong? Items, probes, type-2 measures, published responses.

The package imports core and `letheon.measure.asking`.
"""
