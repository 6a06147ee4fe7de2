"""Signal processing that networks, degradations and judging share: pure functions of arrays, no files, no settings files."""
