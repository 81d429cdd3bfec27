"""Baselines of behaviour simulation that know nothing of the content, and its scores.

Interpolation between visible neighbours is strong where only a window is masked, and must be printed beside a model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from letheon.measure.human.scenes import Content

TOLERANCE = 5.0  # points of replay within which a value is right (the paper's accuracy)


def interpolated(item: Content, hidden: Sequence[int]) -> dict[int, float]:
    """Interpolate masked replays linearly between visible scenes; ends continue the nearest value, 50 if none is."""
    known = [(n, s.replay) for n, s in enumerate(item.scenes, start=1) if n not in hidden and s.replay is not None]
    if not known:
        return dict.fromkeys(hidden, 50.0)
    places, values = zip(*known, strict=True)
    return {n: float(np.interp(n, places, values)) for n in hidden}


def visible_mean(item: Content, hidden: Sequence[int]) -> dict[int, float]:
    """Predict the mean of the visible replays for every masked scene; 50 if none is visible."""
    known = [s.replay for n, s in enumerate(item.scenes, start=1) if n not in hidden and s.replay is not None]
    return dict.fromkeys(hidden, float(np.mean(known)) if known else 50.0)


def marginal(train: Sequence[Content], hidden: Sequence[int]) -> dict[int, float]:
    """Predict the training videos' mean replay for every masked scene."""
    values = [scene.replay for item in train for scene in item.scenes if scene.replay is not None]
    return dict.fromkeys(hidden, float(np.mean(values)) if values else 50.0)


def replay_errors(item: Content, predicted: Mapping[int, float], hidden: Sequence[int]) -> tuple[float | None, float]:
    """Return a video's root mean squared error over the values that were read, and its accuracy.

    A value that could not be read is wrong; the error is None where none could be read.
    """
    truth = {n: item.scenes[n - 1].replay for n in hidden if item.scenes[n - 1].replay is not None}
    gaps = [abs(predicted[n] - (value or 0.0)) for n, value in truth.items() if n in predicted]
    error = float(np.sqrt(np.mean(np.square(gaps)))) if gaps else None
    return error, sum(gap <= TOLERANCE for gap in gaps) / max(1, len(truth))
