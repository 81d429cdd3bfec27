"""Figures and pages for people, shared by audits, paper reproductions and benchmarks."""
