"""Alternates: the objective, the invented names that it asks about, other forms of questions, the rows it writes.

Imports forget's parts, the base of likelihood objectives and the packages below forget.
"""

from letheon.forget.objectives.alternates import objective as objective
