"""Links of hosts: presets, and settings of one's own.

All figures hold for one direction of a host's own link; a round trip to a host without a link has twice the latency.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields, replace

from skerry.errors import SkerryError

#: Longest wait in a link's queue before packets are dropped (tail drop), seconds. Access links of phones and satellite
#: terminals are known to hold 0.2 s to several seconds; the middle of tc-tbf(8)'s examples is taken.
QUEUE_SECONDS = 0.4


@dataclass(frozen=True)
class Link:
    """One host's link.

    Attributes:
        latency: one-way delay, milliseconds.
        jitter: half-width of the uniform distribution around it, milliseconds. Packets keep their order.
        loss: packets lost in each direction, percent, independent of one another.
        down, up: rate towards and from the host, Mbit/s; 0 for no limit.
    """

    latency: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    down: float = 0.0
    up: float = 0.0

    @property
    def delays(self) -> bool:
        """Whether a rate limit alone is not enough."""
        return bool(self.latency or self.jitter or self.loss)

    @property
    def shapes(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.delays or self.down or self.up)

    def as_dict(self) -> dict[str, float]:
        return asdict(self)

    def __str__(self) -> str:
        rate = f"{self.down:g}/{self.up:g}" if self.down != self.up else f"{self.down:g}"
        parts = [
            f"{self.latency:g} ms" + (f" ± {self.jitter:g}" if self.jitter else "") if self.latency else "",
            f"{self.loss:g} % loss" if self.loss else "",
            f"{rate} Mbit/s" if self.down or self.up else "",
        ]
        return ", ".join(part for part in parts if part) or "none"


#: Where the figures come from:
#: lan: gigabit Ethernet as atlarge-research/continuum has it between cloud machines (infrastructure/network.py,
#:   tc_values: 0 ms, 1000 Mbit/s).
#: wifi: our own round figures for a shared 802.11n cell in one house; take settings of your own where it matters.
#: 4g: continuum's preset 4g from an end device to the cloud: 45 ms +- 5, 7.21 Mbit/s (same place); its loss is 0.
#: 5g: continuum's preset 5g from an end device to an edge site: 7.5 ms +- 2.5, 29.66 Mbit/s (same place); loss 0.
#: satellite: geostationary. 4 * 35,786 km / c = 477 ms a round trip at least, some 580 with coding and access;
#:   100 Mbit/s down and 10 up is the subscription of the geostationary control in the UCLouvain Starlink measurements
#:   (APNIC blog, 28 Nov 2022). For a low orbit that article has a median round trip of 50 ms: latency=25ms,jitter=5ms.
PRESETS: dict[str, Link] = {
    "lan": Link(down=1000, up=1000),
    "wifi": Link(latency=2, jitter=1.5, loss=0.1, down=50, up=50),
    "4g": Link(latency=45, jitter=5, down=7.21, up=7.21),
    "5g": Link(latency=7.5, jitter=2.5, down=29.66, up=29.66),
    "satellite": Link(latency=290, jitter=10, loss=0.1, down=100, up=10),
}
_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]+)?)([a-z%/]*)")
_UNITS = {
    "latency": {"": 1.0, "ms": 1.0, "s": 1000.0, "us": 0.001},
    "jitter": {"": 1.0, "ms": 1.0, "s": 1000.0, "us": 0.001},
    "loss": {"": 1.0, "%": 1.0},
    "rate": {"": 1.0, "mbit": 1.0, "kbit": 0.001, "gbit": 1000.0, "mbit/s": 1.0},
}
_MOST = {"latency": 10_000.0, "jitter": 10_000.0, "loss": 99.0, "rate": 100_000.0}


def _bad(text: str, why: str) -> SkerryError:
    return SkerryError(
        "SANDBOX_020",
        f"link {text!r}: {why}",
        f"a preset ({', '.join(PRESETS)}), or settings such as latency=40ms,jitter=10ms,loss=1%,rate=10mbit "
        "(rate=50mbit/10mbit: to the host / from it)",
    )


def _value(text: str, key: str, raw: str) -> float:
    found = _NUMBER.fullmatch(raw.strip().lower())
    if not found or found[2] not in _UNITS[key]:
        raise _bad(text, f"{key} cannot be {raw!r}")
    value = float(found[1]) * _UNITS[key][found[2]]
    if value > _MOST[key]:
        raise _bad(text, f"{key} is at most {_MOST[key]:g}")
    return value


def parse(text: str) -> Link:
    """A link from its text: '' or ``none``, a preset's name, ``key=value`` pairs, or a preset with pairs that differ.

    Raises:
        SkerryError: SANDBOX_020 says which part is wrong.
    """
    link = Link()
    for index, part in enumerate(piece.strip() for piece in text.split(",")):
        key, equals, raw = part.partition("=")
        if not equals:
            if part in ("", "none"):
                continue
            if index or part not in PRESETS:
                raise _bad(text, f"there is no preset {part!r}")
            link = PRESETS[part]
        elif key == "rate":
            down, _, up = raw.lower().replace("/s", "").partition("/")
            link = replace(link, down=_value(text, key, down), up=_value(text, key, up or down))
        elif key in ("latency", "jitter", "loss"):
            link = replace(link, **{key: _value(text, key, raw)})
        else:
            raise _bad(text, f"there is no setting {key!r}")
    if link.jitter > link.latency:
        raise _bad(text, "jitter is larger than latency: packets would have to arrive before they were sent")
    return link


def same(link: Link, values: dict[str, float]) -> bool:
    """Whether noted ``values`` (of `Link.as_dict`) describe ``link``."""
    return all(abs(getattr(link, field.name) - float(values.get(field.name, -1))) < 1e-9 for field in fields(link))
