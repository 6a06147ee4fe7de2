"""Training by PyTorch Lightning; the only room that knows it."""
