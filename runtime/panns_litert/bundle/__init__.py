"""Bundle: the folder that `convert` writes and every runtime reads, its manifest with the record of its proof, its
self-test, and the cache for bundles.

It may import `frontend`, `events`, `demo` and the layers below them. It uses `frontend`, `sense`, `strict`, `atomic`
and `errors`.
"""

from panns_litert.bundle.bundle import MEL_BASIS, MODEL_CARD, Bundle, file_sha256
from panns_litert.bundle.cache import (
    CACHE_VARIABLE,
    DEFAULT_PRECISION,
    DEFAULT_SECONDS,
    bundle_dir,
    cache_dir,
)
from panns_litert.bundle.cached import cached_bundle
from panns_litert.bundle.check import QUANTIZED, STAGES, Check, PrecisionName
from panns_litert.bundle.manifest import (
    FORMAT_VERSION,
    GRAPHS,
    LOG_MEL,
    MANIFEST,
    OWN_WEIGHTS,
    PRECISIONS,
    FileRecord,
    GpuRecord,
    GraphName,
    KeptLayer,
    Manifest,
    Quantization,
    Source,
    TensorSpec,
)
from panns_litert.bundle.model_card import model_card
from panns_litert.bundle.selftest import SELF_TEST, SELF_TEST_SAMPLES, SelfTest
from panns_litert.bundle.writer import BundleWriter

__all__ = [
    "CACHE_VARIABLE",
    "DEFAULT_PRECISION",
    "DEFAULT_SECONDS",
    "FORMAT_VERSION",
    "GRAPHS",
    "LOG_MEL",
    "MANIFEST",
    "MEL_BASIS",
    "MODEL_CARD",
    "OWN_WEIGHTS",
    "PRECISIONS",
    "QUANTIZED",
    "SELF_TEST",
    "SELF_TEST_SAMPLES",
    "STAGES",
    "Bundle",
    "BundleWriter",
    "Check",
    "FileRecord",
    "GpuRecord",
    "GraphName",
    "KeptLayer",
    "Manifest",
    "PrecisionName",
    "Quantization",
    "SelfTest",
    "Source",
    "TensorSpec",
    "bundle_dir",
    "cache_dir",
    "cached_bundle",
    "file_sha256",
    "model_card",
]
