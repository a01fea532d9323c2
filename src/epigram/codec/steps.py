"""Step sizes as a file can say them: a 4-bit mantissa and a power of two, exact in float64.

``step = (16 + mantissa) * 2**(exponent - 4)`` with mantissa 0..15 and exponent -128..127, so
neighbours are 3-6 % apart and rounding moves a step by at most 1/32 of itself.
"""

from __future__ import annotations

import math

from epigram.errors import ConfigError, FormatError

MANTISSA_BITS = 4
EXPONENT_MIN, EXPONENT_MAX = -128, 127
_ONE = 1 << MANTISSA_BITS


def step_value(exponent: int, mantissa: int) -> float:
    """The float64 that a pair stands for.

    Raises:
        FormatError: the exponent is out of range.
    """
    if not EXPONENT_MIN <= exponent <= EXPONENT_MAX:
        raise FormatError(
            f"step size: got exponent {exponent}, expected {EXPONENT_MIN}..{EXPONENT_MAX}"
        )
    return math.ldexp(_ONE + mantissa, exponent - MANTISSA_BITS)


def step_code(step: float) -> tuple[int, int]:
    """Exponent and mantissa of the representable step nearest to ``step`` (ties: the even mantissa).

    Raises:
        ConfigError: not a positive, finite number in the representable range.
    """
    if not (math.isfinite(step) and step > 0.0):
        raise ConfigError(f"step size: got {step!r}, expected a positive finite number")
    fraction, power = math.frexp(step)  # step = fraction * 2**power, 0.5 <= fraction < 1
    mantissa, exponent = round(fraction * 2 * _ONE) - _ONE, power - 1
    if mantissa == _ONE:
        mantissa, exponent = 0, exponent + 1
    if not EXPONENT_MIN <= exponent <= EXPONENT_MAX:
        raise ConfigError(
            f"step size: got {step!r}, expected between 2**{EXPONENT_MIN} and 2**{EXPONENT_MAX}"
        )
    return exponent, mantissa


def representable_step(step: float) -> float:
    """The step size nearest to ``step`` that a file can say; a fixed point of itself.

    Raises:
        ConfigError: not a positive, finite number in the representable range.

    Example:
        >>> representable_step(0.06)
        0.060546875
    """
    return step_value(*step_code(step))
