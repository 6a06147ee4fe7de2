"""Registered models: versions and their gate, packages, cards, lineage, reproduction, deploy hooks, released models."""
