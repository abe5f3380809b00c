"""Audio input: files, arrays, raw samples and the microphone, as mono float32 at the model's sample rate.

It may import only the layers below it: `strict`, `atomic` and `errors`.
"""

from panns_litert.audio.files import AUDIO_SUFFIXES, AudioBlocks, audio_files, load_audio
from panns_litert.audio.microphone import microphone
from panns_litert.audio.raw import RAW_FORMATS, raw_blocks
from panns_litert.audio.samples import Audio, MonoResampler, from_array
from panns_litert.audio.silence import is_silent, level_dbfs

__all__ = [
    "AUDIO_SUFFIXES",
    "RAW_FORMATS",
    "Audio",
    "AudioBlocks",
    "MonoResampler",
    "audio_files",
    "from_array",
    "is_silent",
    "level_dbfs",
    "load_audio",
    "microphone",
    "raw_blocks",
]
