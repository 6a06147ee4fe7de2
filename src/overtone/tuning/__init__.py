"""The search for better settings by Optuna; the only room that knows it."""
