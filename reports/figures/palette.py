"""One colour, marker and dash per arm, the same in every figure.

The control is grey; the others run along a sequential ramp (anchors of viridis, dark enough on white) that stays in
order for colour-blind readers and in grey print. A flagged arm is dashed with an open marker, so that no meaning hangs
on colour alone.
"""

from dataclasses import dataclass

CONTROL = "#6b7280"
INK = "#1f2933"
MUTED = "#6b7280"
GRID = "#e3e7ec"
ACCENT = "#9a3412"  # limits and references
BAND = "#dbe4ee"
_RAMP = ((0x45, 0xA8, 0x7A), (0x21, 0x8A, 0x8D), (0x2F, 0x6A, 0x8E), (0x3D, 0x4C, 0x8A), (0x46, 0x1A, 0x5C))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How one arm is drawn."""

    colour: str
    marker: str
    dash: str
    open_marker: bool

    @property
    def face(self) -> str:
        return "white" if self.open_marker else self.colour


def ramp(position: float) -> str:
    """Colour at a position in [0, 1] of the ramp.

    >>> ramp(0.0), ramp(1.0)
    ('#45a87a', '#461a5c')
    """
    scaled = min(max(position, 0.0), 1.0) * (len(_RAMP) - 1)
    low = min(int(scaled), len(_RAMP) - 2)
    mixed = (a + (b - a) * (scaled - low) for a, b in zip(_RAMP[low], _RAMP[low + 1], strict=True))
    return "#" + "".join(f"{round(channel):02x}" for channel in mixed)


def looks(control: list[bool], flagged: list[bool]) -> tuple[Look, ...]:
    """One look per arm, in protocol order.

    >>> [look.colour for look in looks([True, False, False], [False, False, True])]
    ['#6b7280', '#45a87a', '#461a5c']
    """
    active = [i for i, is_control in enumerate(control) if not is_control]
    place = {arm: k / max(len(active) - 1, 1) for k, arm in enumerate(active)}
    return tuple(_look(i, place.get(i), flagged[i]) for i in range(len(control)))


def _look(arm: int, position: float | None, flagged: bool) -> Look:
    colour = CONTROL if position is None else ramp(position)
    return Look(colour=colour, marker=_MARKERS[arm % len(_MARKERS)], dash="--" if flagged else "-", open_marker=flagged)
