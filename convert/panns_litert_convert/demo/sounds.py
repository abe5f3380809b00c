"""Synthesises the sounds that the demo model knows, and random mixtures of them.

Every label is the display name of an AudioSet class whose sounds can be computed from a formula: signals that a
standard defines (dial tone, DTMF, smoke alarm), and sounds with a well-known physical model (a plucked string, a church
bell). The docstring of each generator states the facts that it follows; pitch, rate and timbre vary within them. Only a
simple reverb and a background noise model the microphone and the room.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, fftconvolve, lfilter, sosfilt

RATE = 32000
"""Sample rate of every sound, Hz: that of Cnn14's front end."""

MIN_SECONDS = 0.1
"""Shortest sound, s."""

Signal = NDArray[np.float64]
Waveform = NDArray[np.float32]
Generator = Callable[[int, np.random.Generator], Signal]

# Silence is the noise floor of a 16-bit recording, far below the quietest other clip.
_SILENCE_PEAK_DB = (-95.0, -70.0)
_CLIP_PEAK_DB = (-35.0, -3.0)
_SOUND_BELOW_LOUDEST_DB = 6.0
_BACKGROUND_BELOW_CLIP_DB = (30.0, 60.0)
_SHORTEST_IN_MIXTURE = 1.5  # s: two ticks, one lub-dub, one beep and its pause

_GENERATORS: dict[str, Generator] = {}  # by display name, in AudioSet's order


def _sound(name: str) -> Callable[[Generator], Generator]:
    """Registers a generator under its AudioSet display name."""

    def register(generator: Generator) -> Generator:
        _GENERATORS[name] = generator
        return generator

    return register


# Building blocks. Lengths `n` and starts are samples, times are seconds, pitches are Hz.


def _tone(hz: float | Signal, n: int, *, phase: float = 0.0) -> Signal:
    """Returns a sine of constant pitch, or one that follows the n pitches in `hz`."""
    return np.sin(phase + 2.0 * np.pi * np.cumsum(np.broadcast_to(np.asarray(hz, np.float64), (n,))) / RATE)


def _harmonics(hz: float | Signal, n: int, amplitudes: Sequence[float], rng: np.random.Generator) -> Signal:
    """Returns the sum of the harmonics 1, 2, … of `hz` up to 15 kHz, with these amplitudes and random phases."""
    fundamental = np.exp(2j * np.pi * np.cumsum(np.broadcast_to(np.asarray(hz, np.float64), (n,))) / RATE)
    audible = [a for k, a in enumerate(amplitudes, start=1) if k * float(np.max(hz)) < 15000.0]
    out = np.zeros(n, np.complex128)
    # Horner's rule on powers of the fundamental takes a tenth of the time of one sine per harmonic.
    for amplitude in reversed(audible):
        out += amplitude * np.exp(2j * np.pi * rng.random())
        out *= fundamental
    return np.asarray(out.imag)


def _burst(n: int, *, ramp: float) -> Signal:
    """Returns an envelope of 1 with raised-cosine edges of `ramp` seconds."""
    edge = max(1, min(n // 2, round(ramp * RATE)))
    rise = 0.5 - 0.5 * np.cos(np.pi * (np.arange(edge) + 0.5) / edge)
    out = np.ones(n)
    out[:edge] *= rise
    out[n - edge :] *= rise[::-1]
    return out


def _gate(n: int, spans: Sequence[tuple[float, float]], *, period: float, ramp: float = 0.005) -> Signal:
    """Returns an envelope that repeats (start, length) spans every `period` seconds."""
    out = np.zeros(n)
    for cycle in range(int(n / RATE / period) + 1):
        for start, length in spans:
            _add(out, cycle * period + start, _burst(round(length * RATE), ramp=ramp))
    return out


def _add(out: Signal, start: float, event: Signal) -> None:
    """Adds an event to `out` at `start` seconds; samples beyond the end are dropped."""
    first = round(start * RATE)
    room = len(out) - first
    if room > 0:
        out[first : first + len(event)] += event[:room]


def _decay(seconds: float, *, tau: float) -> Signal:
    """Returns exp(−t / tau)."""
    return np.exp(-np.arange(max(1, round(seconds * RATE))) / (tau * RATE))


def _starts(n: int, step: Callable[[], float]) -> Iterator[float]:
    """Yields start times from 0 to the end, in seconds; `step` is called for the time from one to the next."""
    start = 0.0
    while start < n / RATE:
        yield start
        start += step()


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _noise(n: int, rng: np.random.Generator, *, slope: float) -> Signal:
    """Returns noise of RMS 1 whose power falls as 1 / f^slope: 0 is white, 1 pink, 2 brown."""
    white = rng.standard_normal(n)
    if slope:
        spectrum = np.fft.rfft(white)
        # Flat below 20 Hz, so that slow drift does not use up the range.
        hz = np.maximum(np.fft.rfftfreq(n, 1.0 / RATE), 20.0)
        white = np.fft.irfft(spectrum * hz ** (-slope / 2.0), n)
    return np.asarray(white / (np.sqrt(np.mean(white**2)) + 1e-12))


# The sounds, in the order of AudioSet.


@_sound("Heart sounds, heartbeat")
def _heartbeat(n: int, rng: np.random.Generator) -> Signal:
    """55–110 beats a minute. S1 ("lub") is lower and longer than S2 ("dub"), at the end of a systole of about 0.3 s."""
    period = 60.0 / rng.uniform(55.0, 110.0)
    systole = min(rng.uniform(0.26, 0.34), 0.45 * period)
    first, second = rng.uniform(45.0, 75.0), rng.uniform(75.0, 120.0)
    out = np.zeros(n)
    for start in _starts(n, lambda: period * rng.uniform(0.97, 1.03)):
        for offset, hz, tau, level in ((0.0, first, 0.035, 1.0), (systole, second, 0.025, rng.uniform(0.5, 0.9))):
            envelope = _decay(0.25, tau=tau) * (1.0 - _decay(0.25, tau=0.006))
            thump = _tone(hz, len(envelope)) + 0.3 * _tone(1.7 * hz, len(envelope), phase=1.0)
            _add(out, start + offset, level * envelope * thump)
    return out


@_sound("Cricket")
def _cricket(n: int, rng: np.random.Generator) -> Signal:
    """A field cricket's calling song: chirps of 3–5 syllables of about 20 ms on a carrier of 4.3–5.3 kHz."""
    hz, syllable = rng.uniform(4300.0, 5300.0), rng.uniform(0.015, 0.025)
    pulse = _burst(round(syllable * RATE), ramp=syllable / 3) * _tone(hz, round(syllable * RATE))
    spacing, syllables = syllable * rng.uniform(1.7, 2.2), int(rng.integers(3, 6))
    period = rng.uniform(0.28, 0.5)
    out = np.zeros(n)
    for start in _starts(n, lambda: period * rng.uniform(0.95, 1.05)):
        for k in range(syllables):
            _add(out, start + k * spacing, (0.6 + 0.4 * k / syllables) * pulse)
    return out


@_sound("Plucked string instrument")
def _plucked_string(n: int, rng: np.random.Generator) -> Signal:
    """Karplus and Strong, Computer Music Journal 7 (1983): a burst of noise in a damped, averaging delay loop.

    Notes from the lowest open string of a guitar to an octave above the highest (82–660 Hz).
    """
    out = np.zeros(n)
    spacing, length = rng.uniform(0.22, 0.6), 1.5
    damping = rng.uniform(0.988, 0.998)
    for start in _starts(n, lambda: spacing * float(rng.choice([1.0, 1.0, 2.0])) * rng.uniform(0.97, 1.03)):
        period = round(RATE / _log_uniform(rng, 82.0, 660.0))
        pluck = np.zeros(round(length * RATE))
        pluck[:period] = rng.uniform(-1.0, 1.0, period)
        feedback = np.zeros(period + 2)
        feedback[0], feedback[period], feedback[period + 1] = 1.0, -0.5 * damping, -0.5 * damping
        note = lfilter([1.0], feedback, pluck) * _burst(len(pluck), ramp=0.003)
        _add(out, start, note * rng.uniform(0.6, 1.0))
    return out


@_sound("Church bell")
def _church_bell(n: int, rng: np.random.Generator) -> Signal:
    """Partials of a minor-third bell: hum 0.5, prime 1, tierce 1.2, quint 1.5, nominal 2, and 2.5, 3, 4 above.

    The hum rings longest. High partials form the strike and decay first.
    """
    prime, period = _log_uniform(rng, 220.0, 700.0), rng.uniform(1.0, 2.2)
    ratios = np.array([0.5, 1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0]) * rng.uniform(0.995, 1.005, 8)
    levels = np.array([0.7, 0.8, 0.8, 0.4, 1.0, 0.4, 0.6, 0.4]) * rng.uniform(0.6, 1.4, 8)
    taus = rng.uniform(0.9, 1.6) / np.sqrt(ratios / 0.5)
    out = np.zeros(n)
    length = 3.0
    stroke = np.zeros(round(length * RATE))
    for ratio, level, tau in zip(ratios, levels, taus, strict=True):
        partial = _tone(prime * ratio, len(stroke), phase=rng.uniform(0.0, 2.0 * np.pi))
        stroke += level * _decay(length, tau=tau) * partial
    stroke[: round(0.02 * RATE)] += 0.5 * rng.standard_normal(round(0.02 * RATE)) * _decay(0.02, tau=0.004)
    stroke *= _burst(len(stroke), ramp=0.001)
    for start in _starts(n, lambda: period * rng.uniform(0.97, 1.03)):
        _add(out, start, stroke * rng.uniform(0.7, 1.0))
    return out


@_sound("Crackle")
def _crackle(n: int, rng: np.random.Generator) -> Signal:
    """A crackling fire: snaps at random times (a Poisson process, 12–50 a second), many quiet and few loud."""
    count = max(1, int(rng.poisson(rng.uniform(12.0, 50.0) * n / RATE)))
    out = np.zeros(n)
    for start in rng.uniform(0.0, n / RATE, count):
        length = rng.uniform(0.002, 0.008)
        snap = rng.standard_normal(round(length * RATE)) * _decay(length, tau=length / 4)
        _add(out, float(start), snap * rng.pareto(2.0))
    # The loudness of a snap is unbounded; a microphone limits it.
    return np.tanh(out / (4.0 * np.std(out) + 1e-12))


@_sound("Reversing beeps")
def _reversing_beeps(n: int, rng: np.random.Generator) -> Signal:
    """A tonal back-up alarm: 1–1.4 kHz with a sounder's odd harmonics, 0.4–0.6 s on and equally long off."""
    tone = _harmonics(rng.uniform(1000.0, 1400.0), n, [1.0, 0.02, rng.uniform(0.05, 0.3), 0.01, 0.1], rng)
    on = rng.uniform(0.4, 0.6)
    return tone * _gate(n, [(0.0, on)], period=2.0 * on)


@_sound("Telephone bell ringing")
def _telephone_bell(n: int, rng: np.random.Generator) -> Signal:
    """A clapper between two small gongs a third apart, moved by ringing current of 20 Hz (US) or 25 Hz (Europe).

    This gives 40 or 50 strokes a second. Cadence: US 2 s on, 4 s off; UK 0.4 s on, 0.2 s off, 0.4 s on, 2 s off.
    """
    current = float(rng.choice([20.0, 25.0])) * rng.uniform(0.97, 1.03)
    spans, cadence = ([(0.0, 2.0)], 6.0) if rng.random() < 0.5 else ([(0.0, 0.4), (0.6, 0.4)], 3.0)
    low = rng.uniform(900.0, 1500.0)
    gongs = []
    for hz in (low, low * rng.uniform(1.15, 1.3)):
        partials = zip((1.0, 2.7, 5.2), (1.0, 0.7, 0.35), (0.25, 0.12, 0.06), strict=True)
        length = round(0.6 * RATE)
        gongs.append(sum(a * _decay(0.6, tau=tau) * _tone(r * hz, length) for r, a, tau in partials))
    out = np.zeros(n)
    for cycle in range(int(n / RATE / cadence) + 1):
        for start, length_s in spans:
            for stroke in range(int(length_s * 2.0 * current)):
                gong = np.asarray(gongs[stroke % 2]) * rng.uniform(0.8, 1.0)
                _add(out, cycle * cadence + start + stroke / (2.0 * current), gong)
    return out


_DTMF_ROWS = (697.0, 770.0, 852.0, 941.0)
_DTMF_COLUMNS = (1209.0, 1336.0, 1477.0, 1633.0)


@_sound("Telephone dialing, DTMF")
def _dtmf(n: int, rng: np.random.Generator) -> Signal:
    """ITU-T Q.23: one of four low and one of four high tones per key, within 1.8 %. Q.24: at least 40 ms each.

    The high tone is usually up to 2 dB louder, since lines attenuate it more.
    """
    on, off = rng.uniform(0.07, 0.2), rng.uniform(0.06, 0.2)
    drift, twist = rng.uniform(0.995, 1.005), 10.0 ** (rng.uniform(0.0, 2.0) / 20.0)
    out = np.zeros(n)
    for start in _starts(n, lambda: on + off):
        length = round(on * RATE)
        low, high = drift * rng.choice(_DTMF_ROWS), drift * rng.choice(_DTMF_COLUMNS)
        key = _tone(low, length) + twist * _tone(high, length)
        _add(out, start, key * _burst(length, ramp=0.002))
    return out


@_sound("Dial tone")
def _dial_tone(n: int, rng: np.random.Generator) -> Signal:
    """North American precise tone plan (ITU-T E.180 supplement 2): 350 Hz + 440 Hz, continuous."""
    drift = rng.uniform(0.995, 1.005)
    return _tone(350.0 * drift, n) + rng.uniform(0.8, 1.25) * _tone(440.0 * drift, n)


@_sound("Busy signal")
def _busy_signal(n: int, rng: np.random.Generator) -> Signal:
    """North American precise tone plan (ITU-T E.180 supplement 2): 480 Hz + 620 Hz, 0.5 s on, 0.5 s off."""
    drift = rng.uniform(0.995, 1.005)
    tones = _tone(480.0 * drift, n) + rng.uniform(0.8, 1.25) * _tone(620.0 * drift, n)
    return tones * _gate(n, [(0.0, 0.5)], period=1.0)


@_sound("Alarm clock")
def _alarm_clock(n: int, rng: np.random.Generator) -> Signal:
    """A quartz clock: 2048 Hz (the crystal's 32768 Hz / 16) on a piezo, four beeps of 62.5 ms every second."""
    hz = 2048.0 * rng.uniform(0.97, 1.03)
    tone = _harmonics(hz, n, [1.0, 0.03, rng.uniform(0.1, 0.35), 0.02, rng.uniform(0.05, 0.2)], rng)
    period = rng.uniform(0.8, 1.1)
    return tone * _gate(n, [(0.125 * k, 0.0625) for k in range(4)], period=period, ramp=0.002)


@_sound("Siren")
def _siren(n: int, rng: np.random.Generator) -> Signal:
    """Emergency sirens: wail (a sweep of 3–6 s), yelp (2–4 sweeps a second) and hi-lo (two tones a fourth apart).

    Wail and yelp sweep between about 550 and 1600 Hz; the horn adds harmonics.
    """
    t = np.arange(n) / RATE
    kind = rng.integers(3)
    if kind == 2:
        low = rng.uniform(400.0, 500.0)  # 440 and 585 Hz in Germany (DIN 14610: 360–630 Hz, ratio 1.333)
        hz = np.where((t / rng.uniform(0.5, 0.75)) % 2.0 < 1.0, low, low * 4.0 / 3.0)
    else:
        rate = rng.uniform(0.17, 0.33) if kind == 0 else rng.uniform(2.0, 4.0)
        low, high = rng.uniform(500.0, 650.0), rng.uniform(1200.0, 1700.0)
        sweep = 0.5 - 0.5 * np.cos(2.0 * np.pi * (rate * t + rng.uniform(0.0, 1.0)))
        hz = low * (high / low) ** sweep
    tilt = rng.uniform(0.8, 1.6)
    return _harmonics(hz, n, [k**-tilt for k in range(1, 9)], rng)


@_sound("Buzzer")
def _buzzer(n: int, rng: np.random.Generator) -> Signal:
    """An electromechanical buzzer: a spring contact that opens at 90–260 Hz; bright pulses in long bursts."""
    tilt = rng.uniform(0.1, 0.5)
    tone = _harmonics(rng.uniform(90.0, 260.0), n, [k**-tilt for k in range(1, 41)], rng)
    on, off = rng.uniform(0.4, 1.5), rng.uniform(0.2, 0.8)
    return tone * _gate(n, [(0.0, on)], period=on + off)


@_sound("Smoke detector, smoke alarm")
def _smoke_alarm(n: int, rng: np.random.Generator) -> Signal:
    """ISO 8201 three-pulse pattern on a piezo of about 3.1 kHz: three times 0.5 s on and 0.5 s off, then 1 s off."""
    tone = _harmonics(rng.uniform(2900.0, 3400.0), n, [1.0, rng.uniform(0.02, 0.1), rng.uniform(0.05, 0.2)], rng)
    return tone * _gate(n, [(0.0, 0.5), (1.0, 0.5), (2.0, 0.5)], period=4.0)


@_sound("Foghorn")
def _foghorn(n: int, rng: np.random.Generator) -> Signal:
    """A diaphone: blasts of 2–4 s at 100–190 Hz, with dark harmonics, slow attack and a pitch that falls at the end."""
    pitch, tilt = rng.uniform(100.0, 190.0), rng.uniform(1.1, 1.6)
    blast_s, gap = rng.uniform(2.0, 4.0), rng.uniform(1.0, 3.0)
    length = round(blast_s * RATE)
    sag = np.ones(length)
    tail = round(0.35 * RATE)
    sag[-tail:] = np.linspace(1.0, rng.uniform(0.75, 0.95), tail)
    blast = _harmonics(pitch * sag, length, [k**-tilt for k in range(1, 15)], rng) * _burst(length, ramp=0.15)
    out = np.zeros(n)
    for start in _starts(n, lambda: blast_s + gap):
        _add(out, start, blast)
    return out


@_sound("Tick-tock")
def _tick_tock(n: int, rng: np.random.Generator) -> Signal:
    """A pendulum clock: a tick and a lower tock in turn, every 0.4–1 s, as damped resonances of a few ms."""
    period = rng.uniform(0.4, 1.0)
    clicks = []
    tick = rng.uniform(2200.0, 4500.0)
    for hz in (tick, tick * rng.uniform(0.6, 0.8)):
        ring = sum(
            a * _decay(0.04, tau=tau) * _tone(r * hz, round(0.04 * RATE), phase=np.pi / 2)
            for r, a, tau in ((1.0, 1.0, 0.004), (1.6, 0.6, 0.002), (0.37, 0.5, 0.006))
        )
        clicks.append(np.asarray(ring))
    out = np.zeros(n)
    for k in range(int(n / RATE / period) + 1):
        # The escapement releases in two steps, 12 ms apart.
        _add(out, k * period, clicks[k % 2] * rng.uniform(0.9, 1.0))
        _add(out, k * period + 0.012, 0.5 * clicks[k % 2])
    return out


@_sound("Silence")
def _silence(n: int, rng: np.random.Generator) -> Signal:
    """Digital zero, or the noise floor of a recording: a peak below −70 dBFS."""
    if rng.random() < 0.3:
        return np.zeros(n)
    noise = _noise(n, rng, slope=rng.uniform(0.0, 2.0))
    return _to_peak(noise, rng.uniform(*_SILENCE_PEAK_DB))


@_sound("Sine wave")
def _sine_wave(n: int, rng: np.random.Generator) -> Signal:
    """One steady frequency, 100 Hz … 8 kHz."""
    return _tone(_log_uniform(rng, 100.0, 8000.0), n)


@_sound("Chirp tone")
def _chirp_tone(n: int, rng: np.random.Generator) -> Signal:
    """A pure tone that repeats a sweep up or down by 1.5–5 octaves within 100 Hz … 12 kHz; 0.25–1.5 s each."""
    octaves = rng.uniform(1.5, 5.0)
    low = _log_uniform(rng, 100.0, 12000.0 / 2.0**octaves)
    length, gap = rng.uniform(0.25, 1.5), rng.choice([0.0, 1.0]) * rng.uniform(0.05, 0.5)
    ramp = np.linspace(0.0, 1.0, round(length * RATE))
    hz = low * 2.0 ** (octaves * ramp) if rng.random() < 0.6 else low * (1.0 + (2.0**octaves - 1.0) * ramp)
    sweep = _tone(hz if rng.random() < 0.5 else hz[::-1], len(ramp)) * _burst(len(ramp), ramp=0.01)
    out = np.zeros(n)
    for k in range(int(n / RATE / (length + gap)) + 1):
        _add(out, k * (length + gap), sweep)
    return out


@_sound("Mains hum")
def _mains_hum(n: int, rng: np.random.Generator) -> Signal:
    """50 or 60 Hz and its harmonics. The even ones are louder, since a transformer's core moves twice per cycle."""
    hz = float(rng.choice([50.0, 60.0])) * rng.uniform(0.998, 1.002)
    tilt = rng.uniform(1.0, 2.0)
    levels = [(1.0 if k % 2 == 0 else rng.uniform(0.1, 0.5)) * k**-tilt for k in range(1, 17)]
    return _harmonics(hz, n, levels, rng)


@_sound("White noise")
def _white_noise(n: int, rng: np.random.Generator) -> Signal:
    """Equal power per hertz."""
    return _noise(n, rng, slope=0.0)


@_sound("Pink noise")
def _pink_noise(n: int, rng: np.random.Generator) -> Signal:
    """Equal power per octave: 1 / f."""
    return _noise(n, rng, slope=1.0)


LABELS: tuple[str, ...] = tuple(_GENERATORS)
"""AudioSet display names, in AudioSet's order."""

SILENCE = "Silence"


def _unlabelled(n: int, rng: np.random.Generator) -> Signal:
    """A sound of no label: a band of noise in gusts, or a voice-like tone in syllables."""
    t = np.arange(n) / RATE
    if rng.random() < 0.5:
        low = _log_uniform(rng, 150.0, 4000.0)
        band = butter(2, [low, min(low * rng.uniform(1.3, 3.0), 12000.0)], "bandpass", fs=RATE, output="sos")
        gusts = 0.6 + 0.4 * np.sin(2.0 * np.pi * rng.uniform(0.2, 3.0) * t + rng.uniform(0.0, 6.0))
        return np.asarray(sosfilt(band, rng.standard_normal(n)) * gusts)
    glide = 2.0 ** (rng.uniform(0.1, 0.4) * np.sin(2.0 * np.pi * rng.uniform(0.3, 1.0) * t))
    pulses = _harmonics(rng.uniform(110.0, 260.0) * glide, n, [1.0 / k for k in range(1, 26)], rng)
    voice = np.zeros(n)
    for low, high in ((300.0, 900.0), (900.0, 2200.0), (2200.0, 3200.0)):
        centre = rng.uniform(low, high)
        formant = butter(1, [0.93 * centre, 1.07 * centre], "bandpass", fs=RATE, output="sos")
        voice += np.asarray(sosfilt(formant, pulses))
    return voice * np.maximum(0.0, np.sin(2.0 * np.pi * rng.uniform(1.5, 2.5) * t))


def _amplitude(db: float) -> float:
    return float(10.0 ** (db / 20.0))


def _to_unit_loudness(sound: Signal) -> Signal:
    """Scales a sound to an RMS of 1 in its loudest 50 ms, so that ticks and steady tones are comparable."""
    frame = RATE // 20
    frames = np.pad(sound, (0, -len(sound) % frame)).reshape(-1, frame)
    loudest = np.sqrt(np.mean(frames**2, axis=1).max())
    return np.asarray(sound / loudest) if loudest > 0.0 else sound


def _to_peak(sound: Signal, db: float) -> Signal:
    peak = np.abs(sound).max()
    return np.asarray(sound * (_amplitude(db) / peak)) if peak > 0.0 else sound


def _reverberate(dry: Signal, rng: np.random.Generator) -> Signal:
    """Adds the reverb of a small room: noise that decays by 60 dB in 0.1–0.8 s, 6–20 dB below the direct sound."""
    seconds = rng.uniform(0.1, 0.8)
    tail = rng.standard_normal(round(seconds * RATE)) * _decay(seconds, tau=seconds / 6.9)
    tail *= _amplitude(rng.uniform(-20.0, -6.0)) / np.sqrt(np.sum(tail**2))
    return dry + fftconvolve(dry, tail)[: len(dry)]


def _samples(seconds: float) -> int:
    if not MIN_SECONDS <= seconds < float("inf"):
        raise ValueError(f"{seconds} s of sound; expected at least {MIN_SECONDS} s")
    return round(seconds * RATE)


def synthesise(label: str, *, seconds: float, rng: np.random.Generator) -> Waveform:
    """Returns one sound alone, without reverb or background noise.

    Args:
        label: one of LABELS.
        seconds: its length, ≥ MIN_SECONDS.
        rng: draws pitch, rate and timbre; the same state gives the same samples.

    Returns:
        Shape (samples,) at RATE, float32, peak 0.5 (Silence is not scaled).

    Raises:
        ValueError: `label` is unknown, or `seconds` is out of range.

    >>> synthesise("Dial tone", seconds=1.0, rng=np.random.default_rng(0)).shape
    (32000,)
    """
    n = _samples(seconds)
    if label not in _GENERATORS:
        raise ValueError(f"unknown sound {label!r}; expected one of {', '.join(map(repr, LABELS))}")
    sound = _GENERATORS[label](n, rng)
    return (sound if label == SILENCE else _to_peak(sound, -6.02)).astype(np.float32)


def mix(labels: Sequence[str], *, seconds: float, peak_db: float, rng: np.random.Generator) -> Waveform:
    """Returns a clip of several sounds with random onsets and lengths, within 6 dB of each other, half with reverb.

    Args:
        labels: any of LABELS except Silence; an empty list gives a sound that has no label.
        seconds: length of the clip, ≥ MIN_SECONDS.
        peak_db: peak of the clip, dBFS, ≤ 0.
        rng: draws everything else.

    Returns:
        Shape (samples,) at RATE, float32, within [-1, 1].

    Raises:
        ValueError: a label is unknown or Silence, or `seconds` or `peak_db` is out of range.
    """
    n = _samples(seconds)
    if peak_db > 0.0:
        raise ValueError(f"peak of {peak_db} dBFS; expected at most 0")
    if unknown := [label for label in labels if label not in _GENERATORS or label == SILENCE]:
        raise ValueError(f"cannot mix {', '.join(map(repr, unknown))}; expected any of LABELS but {SILENCE!r}")
    generators = [_GENERATORS[label] for label in labels]
    # Some clips also contain an unlabelled sound, which must not change the tags.
    if not labels or rng.random() < 0.1:
        generators.append(_unlabelled)
    clip = np.zeros(n)
    shortest = min(n, round(_SHORTEST_IN_MIXTURE * RATE))
    for generator in generators:
        length = n if rng.random() < 0.4 else int(rng.integers(shortest, n + 1))
        onset = int(rng.integers(0, n - length + 1))
        sound = _to_unit_loudness(generator(length, rng)) * _burst(length, ramp=0.005)
        clip[onset : onset + length] += sound * _amplitude(rng.uniform(-_SOUND_BELOW_LOUDEST_DB, 0.0))
    if rng.random() < 0.5:
        clip = _reverberate(clip, rng)
    below = _amplitude(-rng.uniform(*_BACKGROUND_BELOW_CLIP_DB)) * np.sqrt(np.mean(clip**2))
    clip = clip + below * _noise(n, rng, slope=rng.uniform(0.0, 2.0))
    return _to_peak(clip, peak_db).astype(np.float32)


def mixture(rng: np.random.Generator, *, seconds: float) -> tuple[Waveform, NDArray[np.float32]]:
    """Returns a random clip and its labels: mostly one to three sounds, sometimes none, sometimes silence.

    Args:
        rng: draws everything; the same state gives the same clip.
        seconds: length of the clip, ≥ MIN_SECONDS.

    Returns:
        Waveform (samples,) at RATE, float32, within [-1, 1], peak −35 … −3 dBFS (silence: below −70), and
        labels (len(LABELS),), float32, 0 or 1.

    Raises:
        ValueError: `seconds` is out of range.
    """
    count = int(rng.choice(5, p=[0.06, 0.07, 0.42, 0.32, 0.13]))  # 0: silence; then 0, 1, 2, 3 sounds
    if count == 0:
        chosen = [SILENCE]
        waveform = synthesise(SILENCE, seconds=seconds, rng=rng)
    else:
        others = [label for label in LABELS if label != SILENCE]
        chosen = [str(label) for label in rng.choice(others, size=count - 1, replace=False)]
        waveform = mix(chosen, seconds=seconds, peak_db=rng.uniform(*_CLIP_PEAK_DB), rng=rng)
    labels = np.array([label in chosen for label in LABELS], np.float32)  # (classes,)
    return waveform, labels


def dataset(count: int, *, seconds: float, seed: int) -> tuple[Waveform, NDArray[np.float32]]:
    """Returns random clips of one length. Clip i depends only on `seed` and i.

    Args:
        count: number of clips, ≥ 1.
        seconds: length of each, ≥ MIN_SECONDS.
        seed: ≥ 0.

    Returns:
        Waveforms (count, samples) and labels (count, len(LABELS)), float32.

    Raises:
        ValueError: `count` or `seconds` is out of range.
    """
    if count < 1:
        raise ValueError(f"{count} clips; expected at least 1")
    pairs = [mixture(np.random.default_rng([seed, i]), seconds=seconds) for i in range(count)]
    return np.stack([waveform for waveform, _ in pairs]), np.stack([labels for _, labels in pairs])
