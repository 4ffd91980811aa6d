"""Values on their way between a program and its tests: plain data as JSON.

Put before both drivers. What JSON has no word for is an object of one key, its kind; what is no plain
data at all is left to the driver.
"""

import collections

TYPES = (bool, int, float, complex, str, bytes, list, tuple, set, frozenset, dict, type(None))

# Readers of JSON follow about 128 levels.
DEEPEST = 100


def encode(value, other, depth=0):
    """A value as JSON; `other` gives the JSON of what is no plain data."""
    kind = type(value)
    if value is None or kind in (bool, str):
        return value
    if kind is int:
        return value if abs(value) < 1 << 53 else {"int": hex(value)}
    if kind is float:
        return value if value - value == 0 else {"float": repr(value)}
    if depth >= DEEPEST:
        return other(value)

    def below(items):
        return [encode(item, other, depth + 1) for item in items]

    if kind is list:
        return below(value)
    if isinstance(value, dict):
        return {"dict": [below(pair) for pair in value.items()]}
    for family in (tuple, list, set, frozenset, collections.deque):
        if isinstance(value, family):
            return {family.__name__: below(value)}
    if kind is range:
        return {"range": [value.start, value.stop, value.step]}
    if kind is complex:
        return {"complex": [repr(value.real), repr(value.imag)]}
    if isinstance(value, (bytes, bytearray)):
        return {"bytes": value.hex()}
    # Named, not imported: that would double the time to start.
    if (kind.__module__, kind.__name__) in (("fractions", "Fraction"), ("decimal", "Decimal")):
        return {kind.__name__: str(value)}
    for plain in (int, float, str):
        if isinstance(value, plain):
            return encode(plain(value), other, depth + 1)
    if kind is type and value in TYPES:
        return {"type": value.__name__}
    return other(value)


def decode(value, object_of):
    """The value of some JSON; `object_of` finds what was left to the driver by its number."""
    if isinstance(value, list):
        return [decode(item, object_of) for item in value]
    if not isinstance(value, dict):
        return value
    ((tag, held),) = value.items()
    if tag == "object":
        return object_of(held)
    if tag == "type":
        return next(kind for kind in TYPES if kind.__name__ == held)
    if tag == "int":
        return int(held, 16)
    if tag == "float":
        return float(held)
    if tag == "complex":
        return complex(*map(float, held))
    if tag == "bytes":
        return bytes.fromhex(held)
    if tag == "range":
        return range(*held)
    if tag == "Fraction":
        from fractions import Fraction

        return Fraction(held)
    if tag == "Decimal":
        from decimal import Decimal

        return Decimal(held)
    if tag == "dict":
        return {decode(key, object_of): decode(item, object_of) for key, item in held}
    kinds = (tuple, list, set, frozenset, collections.deque)
    kind = next(kind for kind in kinds if kind.__name__ == tag)
    return kind(decode(item, object_of) for item in held)
