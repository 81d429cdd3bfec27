"""What is descended: one file an objective."""
