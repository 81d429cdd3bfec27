"""Instruction-following under compression: rules shared by subject and judge, judges by rule, agreement, the U-test.

The package imports core and `letheon.measure.asking`.
"""
