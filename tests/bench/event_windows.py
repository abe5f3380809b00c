"""Table `events` of evidence.py: which length of window finds events best, by sed_eval's figures.

The recordings are those of event_defaults.py: clips of ESC-10 without their quiet ends, joined with gaps of 2 to 15 s
over pink noise, here with each clip at the same level.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from esc10 import Evidence
from event_defaults import CLIPS_A_RECORDING, GROUPS, RATE, SEED, Recording, joined

from panns_litert.evaluate import LabelledClip
from panns_litert.sense import Sense
from panns_litert.tagger import Tagger
from panns_litert.windows import event_hop, find_events

WINDOWS = (1.0, 2.0, 5.0, 10.0)
SNR_DB: tuple[float | None, ...] = (None, 20.0, 10.0, 0.0)
"""Level of the clips above the noise; None for no noise."""

COLLAR_SECONDS = 1.0


def events(evidence: Evidence) -> list[dict[str, Any]]:
    """Events of ESC-10's clips in long recordings, found with windows of several lengths, F1 in percent by sed_eval.

    mn04 at fp32 (with clips of 1 s its fp16 file fails its gate), the default thresholds and hops. "onset": an event is
    right if it has the class and begins within 1 s; "onset and offset": it also ends within 1 s or within half of its
    length. "seconds": F1 of whole seconds. Means over all events. "SNR": level of every clip above pink noise.
    """
    rows = []
    for seconds in WINDOWS:
        with Tagger(evidence.bundle("fp32", seconds=seconds), threads=1) as tagger:
            for snr in SNR_DB:
                evidence.say(f"events, windows of {seconds:g} s, {'no noise' if snr is None else f'{snr:g} dB'}")
                rows.append(
                    {
                        "what": f"window of {seconds:g} s",
                        "hop_s": f"{event_hop(tagger):g}",
                        "SNR_dB": "no noise" if snr is None else f"{snr:g}",
                        **measured(tagger, recordings(evidence, snr)),
                    }
                )
    return rows


def recordings(evidence: Evidence, snr: float | None) -> list[Recording]:
    """Returns recordings of all clips, each clip in one, in an order that is the same for every SNR."""
    rng = np.random.default_rng(SEED)
    found = []
    for fold in sorted({clip.fold for clip in evidence.data.clips if clip.fold}):
        clips = rng.permutation(np.array([clip for clip in evidence.data.clips if clip.fold == fold], object))
        for k in range(0, len(clips), CLIPS_A_RECORDING):
            found.append(joined(pairs(clips[k : k + CLIPS_A_RECORDING]), rng, snr=snr, level=True))
    return found


def pairs(clips: Sequence[LabelledClip]) -> list[tuple[Any, str]]:
    """Returns file and label of clips."""
    return [(clip.path, clip.labels[0]) for clip in clips]


def measured(tagger: Tagger, heard: Sequence[Recording]) -> dict[str, float]:
    """Returns the figures of a tagger on recordings whose events are known."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its dcase_util imports pkg_resources
        import sed_eval

    names = list(GROUPS)
    metrics = {
        "onset": sed_eval.sound_event.EventBasedMetrics(names, t_collar=COLLAR_SECONDS, evaluate_offset=False),
        "both": sed_eval.sound_event.EventBasedMetrics(names, t_collar=COLLAR_SECONDS, percentage_of_length=0.5),
        "seconds": sed_eval.sound_event.SegmentBasedMetrics(names, time_resolution=1.0),
    }
    sense = Sense(tagger.labels, groups=GROUPS)
    for k, (samples, truth) in enumerate(heard):
        found = find_events(tagger, samples, sample_rate=RATE, sense=sense)
        true = rows_of([(start, end, label) for start, end, label in truth], k)
        mine = rows_of([(event.start, event.end, event.label) for event in found], k)
        for metric in metrics.values():
            metric.evaluate(reference_event_list=true, estimated_event_list=mine)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # means of classes without an event
        overall = {name: metric.results_overall_metrics()["f_measure"] for name, metric in metrics.items()}

    def percent(metric: str, figure: str = "f_measure") -> float:
        return 100 * float(np.nan_to_num(overall[metric][figure]))  # NaN: nothing was found

    return {
        "onset_F1": percent("onset"),
        "onset_precision": percent("onset", "precision"),
        "onset_recall": percent("onset", "recall"),
        "onset_and_offset_F1": percent("both"),
        "seconds_F1": percent("seconds"),
    }


def rows_of(events: Sequence[tuple[float, float, str]], recording: int) -> Any:
    """Returns events as sed_eval takes them."""
    import dcase_util

    return dcase_util.containers.MetaDataContainer(
        [
            {"filename": f"{recording}.wav", "onset": float(start), "offset": float(end), "event_label": label}
            for start, end, label in events
        ]
    )
