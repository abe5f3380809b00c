"""Bundle: the folder that `convert` writes and every runtime reads, its manifest with the record of its proof, its
self-test, the cache for bundles, and pulling one from the Hugging Face hub.

It may import `frontend`, `events`, `demo` and the layers below them. It uses `frontend`, `sense`, `hub`, `strict`,
`atomic` and `errors`.
"""

from panns_litert.bundle.bundle import MEL_BASIS, MODEL_CARD, Bundle, file_sha256
from panns_litert.bundle.cache import (
    CACHE_VARIABLE,
    DEFAULT_PRECISION,
    DEFAULT_SECONDS,
    bundle_dir,
    cache_dir,
)
from panns_litert.bundle.cached import cached_bundle, cached_model
from panns_litert.bundle.check import ENGINE, QUANTIZED, STAGES, Check, PrecisionName
from panns_litert.bundle.manifest import (
    ADOPTED_VERSION,
    FINE_TUNED,
    FORMAT_VERSION,
    GRAPHS,
    LOG_MEL,
    MANIFEST,
    NPU_MODEL,
    OWN_WEIGHTS,
    PRECISIONS,
    UNKNOWN,
    FileRecord,
    GpuRecord,
    GraphName,
    KeptLayer,
    Manifest,
    NpuRecord,
    Quantization,
    Source,
    TensorSpec,
)
from panns_litert.bundle.model_card import METADATA_MARK, hub_metadata, model_card
from panns_litert.bundle.named import RECOMMENDED_MODEL, find_bundle, open_bundle
from panns_litert.bundle.pulled import pull
from panns_litert.bundle.selftest import SELF_TEST, SELF_TEST_SAMPLES, SelfTest
from panns_litert.bundle.trial import require_tried
from panns_litert.bundle.writer import BundleWriter, copy_bundle

__all__ = [
    "ADOPTED_VERSION",
    "CACHE_VARIABLE",
    "DEFAULT_PRECISION",
    "DEFAULT_SECONDS",
    "ENGINE",
    "FINE_TUNED",
    "FORMAT_VERSION",
    "GRAPHS",
    "LOG_MEL",
    "MANIFEST",
    "MEL_BASIS",
    "METADATA_MARK",
    "MODEL_CARD",
    "NPU_MODEL",
    "OWN_WEIGHTS",
    "PRECISIONS",
    "QUANTIZED",
    "RECOMMENDED_MODEL",
    "SELF_TEST",
    "SELF_TEST_SAMPLES",
    "STAGES",
    "UNKNOWN",
    "Bundle",
    "BundleWriter",
    "Check",
    "FileRecord",
    "GpuRecord",
    "GraphName",
    "KeptLayer",
    "Manifest",
    "NpuRecord",
    "PrecisionName",
    "Quantization",
    "SelfTest",
    "Source",
    "TensorSpec",
    "bundle_dir",
    "cache_dir",
    "cached_bundle",
    "cached_model",
    "copy_bundle",
    "file_sha256",
    "find_bundle",
    "hub_metadata",
    "model_card",
    "open_bundle",
    "pull",
    "require_tried",
]
