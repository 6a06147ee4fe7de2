"""The search for better settings by Optuna; the only package that knows it."""
