"""Keep a model from forgetting: streams of tasks, strategies under one protocol, replay memory, metrics, comparisons.

The main job is `letheon.learn(model, stream, strategy="replay")`.

Imports core, report and probe.
"""
