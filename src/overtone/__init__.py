"""Audio super-resolution: narrow-band, codec-crushed or noisy audio in, full-band 48 kHz audio out.

`Upsampler` and `Profile` are loaded when they are first asked for: `import overtone` alone loads nothing heavy.
"""

import importlib

__all__ = ["Profile", "Upsampler"]


# Types are in `__init__.pyi`.
def __getattr__(name):  # type: ignore[no-untyped-def]
    if name in __all__:
        return getattr(importlib.import_module("overtone.registry.upsampler"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
