"""The addresses of the site: one file per group of pages. Imports the modules of `letheon.page`."""
