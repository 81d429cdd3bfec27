"""A kit for pages: figures, plots, numbers, safe text, HTML, PDF.

Every package above core may use it; imports core alone."""
