"""Analyses: each is a fold over a graph, one per file."""
