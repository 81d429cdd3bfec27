"""Look into a model: what its states hold, which parts do what, how deep a change goes."""
