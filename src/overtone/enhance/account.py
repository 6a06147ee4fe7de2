"""What was done to a signal and why, in a sentence."""

from __future__ import annotations

from overtone.enhance.stream import Treatment


def account(treatment: Treatment, mode: str, rate: int) -> str:
    """Such as `band ended at 4.0 kHz: extended to 24 kHz; lost packets filled; no clipping, no noise found`.

    Args:
        mode: that was asked for; only `auto` looks for damage.
        rate: canonical rate in Hz.
    """
    if treatment.extends(rate):
        parts = [f"band ended at {treatment.cutoff_hz / 1000:.1f} kHz: extended to {rate / 2000:g} kHz"]
        if treatment.profile is not None:
            parts[0] += f" after {treatment.profile.name}"
    else:
        parts = ["band is full: nothing added"]
    repairs = (
        (treatment.conceal, "lost packets filled", "no lost packets"),
        (treatment.declip, "clipping repaired", "no clipping"),
        (treatment.denoise, "noise taken out", "no noise"),
    )
    parts += [done for wanted, done, _ in repairs if wanted]
    absent = [nothing for wanted, _, nothing in repairs if not wanted]
    if mode == "auto" and absent:
        parts.append(f"{', '.join(absent)} found")
    return "; ".join(parts)
