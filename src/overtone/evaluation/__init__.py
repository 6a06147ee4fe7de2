"""Judging: what a system puts out against what was lost, on fixed conditions, in figures with their intervals."""
