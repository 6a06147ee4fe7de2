from overtone.api import Profile as Profile
from overtone.api import Upsampler as Upsampler

__all__ = ["Profile", "Upsampler"]
