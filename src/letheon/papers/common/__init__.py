"""What reproductions share: small worlds, small models, figures. No paper of its own.

Imports every package below papers.
"""
