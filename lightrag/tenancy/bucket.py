"""The arithmetic of a rate: a bucket that fills steadily and never holds more than a burst. Knows no clock."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    """So many per second in the long run, and so many at once."""

    per_second: float
    burst: float

    @classmethod
    def per_minute(cls, number: int) -> Rate:
        """A rate of which one minute's worth may come at once."""
        return cls(number / 60.0, float(number))

    def full(self, moment: float) -> Bucket:
        """A bucket that nothing was taken from yet."""
        return Bucket(self.burst, moment)

    def refill(self, bucket: Bucket, now: float) -> Bucket:
        """What is in a bucket later. A clock that goes backwards adds nothing."""
        elapsed = max(now - bucket.moment, 0.0)
        return Bucket(min(bucket.level + elapsed * self.per_second, self.burst), max(now, bucket.moment))

    def take(self, bucket: Bucket, wanted: int, now: float) -> tuple[Bucket, int]:
        """Take up to ``wanted`` whole units; returns what remains, and how many were taken."""
        filled = self.refill(bucket, now)
        taken = min(wanted, int(filled.level + _ROUNDING))
        return Bucket(max(filled.level - taken, 0.0), filled.moment), taken

    def give_back(self, bucket: Bucket, unused: int, now: float) -> Bucket:
        """Return units that were taken and not used."""
        filled = self.refill(bucket, now)
        return Bucket(min(filled.level + unused, self.burst), filled.moment)

    def seconds_until(self, bucket: Bucket, wanted: int = 1) -> float:
        """How long after ``bucket.moment`` that many units will be there."""
        return max(wanted - bucket.level, 0.0) / self.per_second


@dataclass(frozen=True, slots=True)
class Bucket:
    """What could be taken at a moment."""

    level: float
    moment: float
    """In seconds, of whatever clock all who share the bucket agree on."""


# Sixty times a sixtieth is a little less than one.
_ROUNDING = 1e-6

__all__ = ["Bucket", "Rate"]
