"""Front end: the log-mel of a waveform or of a stream, as a `FrontEndSpec` defines it.

It may import `audio`, `engine`, `sense` and the layers below them. It uses only `strict` and `errors`.
"""

from panns_litert.frontend.logmel import LogMel, hann, require_waveform
from panns_litert.frontend.mel import mel_basis
from panns_litert.frontend.spec import (
    AST_16K,
    EFFICIENTAT_32K,
    FRONT_ENDS,
    PANNS_8K,
    PANNS_16K,
    PANNS_32K,
    FrontEndSpec,
    front_end_of,
)
from panns_litert.frontend.streaming import StreamingLogMel

__all__ = [
    "AST_16K",
    "EFFICIENTAT_32K",
    "FRONT_ENDS",
    "PANNS_8K",
    "PANNS_16K",
    "PANNS_32K",
    "FrontEndSpec",
    "LogMel",
    "StreamingLogMel",
    "front_end_of",
    "hann",
    "mel_basis",
    "require_waveform",
]
