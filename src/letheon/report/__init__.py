"""A kit for pages: figures, plots, numbers, safe text, HTML, PDF.

Every room above core may use it; imports core alone."""
