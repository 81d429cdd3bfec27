"""A language model in memory: loading and saving, the sites inside it, hooks on them, and shortened forward passes.

May be imported by every package; imports core alone."""
