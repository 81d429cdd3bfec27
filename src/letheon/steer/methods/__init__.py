"""Steering methods, one file each. The package imports core, probe, and the other files of `letheon.steer`."""
