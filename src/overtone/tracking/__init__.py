"""MLflow: where runs and models are recorded, the registry and its gate, the served model. The only MLflow code."""
