from overtone.registry.upsampler import Profile as Profile
from overtone.registry.upsampler import Upsampler as Upsampler

__all__ = ["Profile", "Upsampler"]
