"""Second-order information: Kronecker factors of linear layers, and the null space of activations.

Updates of the forget wing use it; imports core alone."""
