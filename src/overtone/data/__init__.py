"""Data: raw audio -> checked corpus -> degraded pairs."""
