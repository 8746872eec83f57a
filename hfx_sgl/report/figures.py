"""Look and output of the plots. The only module that imports matplotlib."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hfx_sgl.errors import ConfigError

_COLOURS = (
    "#3366aa", "#dd7722", "#339966", "#aa3377", "#7755cc", "#997733", "#2299aa", "#555555",
)  # fmt: skip
_MARKERS = "osD^vPX*"
_WIDTH_IN = 5.0
_HEIGHT_IN = 3.4
_DOTS_PER_IN = 110
_MAX_WIDTH_DOTS = 1_200
"""Panels beside each other get smaller rather than the file larger."""


def line_style(index: int) -> dict[str, str]:
    """Return colour and marker of the n-th thing compared; the same in every plot of a report."""
    return {"color": _COLOURS[index % len(_COLOURS)], "marker": _MARKERS[index % len(_MARKERS)]}


def save_panels(
    path: Path, titles: Sequence[str], draw: Callable[[Any, int], None], *, num_columns: int = 2
) -> None:
    """Draw one panel per title and save them as one PNG.

    Args:
        path: the file to write.
        titles: the panels' titles, at least one.
        draw: called with a matplotlib axes and the index of the panel.
        num_columns: how many panels a row has at most.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as exc:
        raise ConfigError("plots need matplotlib: pip install 'hfx-sgl[report]'") from exc
    num_columns = min(num_columns, len(titles))
    num_rows = -(-len(titles) // num_columns)
    figure = Figure(figsize=(_WIDTH_IN * num_columns, _HEIGHT_IN * num_rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(num_rows, num_columns, squeeze=False).ravel()
    for index, title in enumerate(titles):
        axes[index].set_title(title, fontsize=10)
        axes[index].grid(visible=True, alpha=0.25)
        draw(axes[index], index)
    for unused in axes[len(titles) :]:
        unused.set_axis_off()
    # Without the record of the software the file is the same for the same runs.
    dots_per_in = min(_DOTS_PER_IN, _MAX_WIDTH_DOTS / (_WIDTH_IN * num_columns))
    figure.savefig(path, dpi=dots_per_in, metadata={"Software": None})
