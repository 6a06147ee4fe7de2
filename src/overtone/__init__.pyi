from overtone.api import Upsampler as Upsampler

__all__ = ["Upsampler"]
