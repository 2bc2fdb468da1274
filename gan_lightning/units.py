"""Numbers of bytes and seconds as text."""

UNITS = {"days": 2 * 24 * 3600, "hours": 2 * 3600, "minutes": 2 * 60}
"""Unit -> the shortest time in seconds that is shown in it."""


def bytes_text(count: int) -> str:
    """Write a number of bytes in a readable unit."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def duration(seconds: float) -> str:
    """Write a time in a readable unit."""
    unit, least = next(((unit, least) for unit, least in UNITS.items() if seconds >= least), ("seconds", 2))
    amount = seconds / (least / 2)
    return f"{amount:.0f} {unit}" if amount >= 10 else f"{amount:.1f} {unit}"
