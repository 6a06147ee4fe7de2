"""From a trained model to enhanced audio: arrays, files of any length, live streams."""
