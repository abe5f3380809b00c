"""Audio input: files, arrays, raw samples, microphones and network streams, as mono float32 at the model's sample rate.

It may import only the layers below it: `strict`, `atomic` and `errors`.
"""

from panns_litert.audio.containers import is_container
from panns_litert.audio.files import AudioBlocks, AudioWarning, Recording, load_audio
from panns_litert.audio.folders import AUDIO_SUFFIXES, UnreadWarning, audio_files, no_audio, scan_folder
from panns_litert.audio.media import MEDIA_SUFFIXES
from panns_litert.audio.microphone import (
    BLOCK_SECONDS,
    Microphone,
    MicrophoneStream,
    find_microphone,
    microphones,
    same_microphone,
)
from panns_litert.audio.network import NETWORK_SCHEMES, NetworkStream, plain_url, require_av
from panns_litert.audio.raw import RAW_FORMATS, WavSamples, raw_blocks, wav_header
from panns_litert.audio.samples import LEAST_RATE, MOST_RATE, SCALES, Audio, MonoResampler, Scale, from_array
from panns_litert.audio.silence import is_silent, level_dbfs
from panns_litert.audio.sources import FileLike, Prefixed, is_file_like, name_of, read_head

__all__ = [
    "AUDIO_SUFFIXES",
    "BLOCK_SECONDS",
    "LEAST_RATE",
    "MEDIA_SUFFIXES",
    "MOST_RATE",
    "NETWORK_SCHEMES",
    "RAW_FORMATS",
    "SCALES",
    "Audio",
    "AudioBlocks",
    "AudioWarning",
    "FileLike",
    "Microphone",
    "MicrophoneStream",
    "MonoResampler",
    "NetworkStream",
    "Prefixed",
    "Recording",
    "Scale",
    "UnreadWarning",
    "WavSamples",
    "audio_files",
    "find_microphone",
    "from_array",
    "is_container",
    "is_file_like",
    "is_silent",
    "level_dbfs",
    "load_audio",
    "microphones",
    "name_of",
    "no_audio",
    "plain_url",
    "raw_blocks",
    "read_head",
    "require_av",
    "same_microphone",
    "scan_folder",
    "wav_header",
]
