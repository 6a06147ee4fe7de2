"""The page on which all systems of the line stand beside each other: tables, charts, clips to listen to. One HTML file."""
