"""The networks, the front end they share, and the systems without learning that they are measured against."""
