"""The public names, by the package that hands them out: none may be lost."""

from __future__ import annotations

import importlib

import pytest

NAMES = {
    "panns_litert": """
        Audio Bundle demo_bundle demo_clips Event EventChange EventDetector EventSettings find_events FrontEndSpec
        LiveEvents load_audio LogMel LongTagging Ontology PannsLitertError Sense StreamingLogMel StreamTagger Tag
        tag_long Tagger TaggerSettings Tagging TruncationWarning Window windows
    """,
    "panns_litert.atomic": """
        exchange remove_unfinished replacing writing
    """,
    "panns_litert.audio": """
        Audio audio_files AUDIO_SUFFIXES AudioBlocks AudioWarning BLOCK_SECONDS FileLike find_microphone from_array
        is_container is_file_like is_silent LEAST_RATE level_dbfs load_audio MEDIA_SUFFIXES Microphone
        microphones MicrophoneStream MonoResampler MOST_RATE name_of NETWORK_SCHEMES NetworkStream no_audio plain_url
        Prefixed raw_blocks RAW_FORMATS read_head Recording require_av same_microphone Scale SCALES scan_folder
        UnreadWarning wav_header WavSamples
    """,
    "panns_litert.batch": """
        batch BatchSummary LEDGER MOST_TRIES RECORD RESULTS Rows Shard SHOWN_FAILURES
    """,
    "panns_litert.bundle": """
        ADOPTED_VERSION Bundle bundle_dir BundleWriter cache_dir CACHE_VARIABLE cached_bundle cached_model Check
        copy_bundle DEFAULT_PRECISION DEFAULT_SECONDS ENGINE file_sha256 FileRecord find_bundle FINE_TUNED
        FORMAT_VERSION GpuRecord GraphName GRAPHS hub_metadata KeptLayer LOG_MEL Manifest MANIFEST MEL_BASIS
        METADATA_MARK model_card MODEL_CARD NPU_MODEL NpuRecord open_bundle OWN_WEIGHTS PrecisionName PRECISIONS pull
        Quantization QUANTIZED RECOMMENDED_MODEL require_tried SELF_TEST SELF_TEST_SAMPLES SelfTest Source STAGES
        TensorSpec UNKNOWN
    """,
    "panns_litert.child": """
        PRINTED_LOG run_child
    """,
    "panns_litert.demo": """
        demo_audio demo_bundle demo_clips
    """,
    "panns_litert.engine": """
        AboutModel AUDIO_PROPERTIES available_cores buffer_data CpuEngine DelegateLog DRIVER_REMEDY Engine ENGINES
        FLOAT16_MAX gpu_only GpuEngine Graph Inputs METADATA_ENTRY native_log NativeLog Outputs pack read_about
        read_delegate_log read_graph read_model RefusedOp unusable vulkan_drivers with_names
    """,
    "panns_litert.errors": """
        AudioError BenchError BundleError CheckpointError ConversionError DatasetError DownloadError EmbeddingError
        EventError GpuDriverError GpuError importing LabelError ManifestError MatchError MissingDependencyError
        NpuError NpuVendorError
        ModelError PannsLitertError ParityError PictureError PrototypeError RecordError ResultsError SettingsError
        SpecError StreamError TrainingError why_failed WindowError WorkerError
    """,
    "panns_litert.escape": """
        csv_cell escaped escaped_json escaped_lines slug utf8
    """,
    "panns_litert.evaluate": """
        advice Annotation Bin BINS BOOTSTRAPS bundle_scorer calibrate Calibration choose_thresholds ClassFigures
        ClassThreshold COLUMNS CONFIDENCE confusion Confusion cut CUT_SECONDS Cutting d_prime Dataset draw_confusion
        draw_reliability draw_worst evaluate Evaluation f1_scores F1Score figures Figures fit_temperature Heard
        HELD_OUT Interval LabelledClip LEAST_CALIBRATION_CLIPS LEAST_CLIPS mean_ap_interval Mistake no_watch
        one_recording plot_evaluation Rates read_dataset reliability Reliability require_classes score Scorer Skipped
        source_of split TEMPERATURES TRAIN VALIDATION Watch wilson write_csv
    """,
    "panns_litert.events": """
        audacity_labels Event EventChange EventDetector events_csv EventSettings Phase Step TAIL_PERCENT THRESHOLDS
        UPDATE_RISE UPDATE_SECONDS WindowSteps
    """,
    "panns_litert.frontend": """
        AST_16K EFFICIENTAT_32K front_end_of FRONT_ENDS FrontEndSpec hann LogMel mel_basis PANNS_16K PANNS_32K PANNS_8K
        require_waveform StreamingLogMel
    """,
    "panns_litert.hub": """
        HubId PREFIX Snapshot upload Uploaded
    """,
    "panns_litert.interrupt": """
        insisting
    """,
    "panns_litert.live": """
        Access Clips ClipSink Controls CsvSink DEFAULT_PORT elapsed_time EventNotice EVERYWHERE FileSource Heard
        is_loopback iso_time JsonLinesSink Listened Listener LossNotice Lost MicrophoneSource MqttSink NetworkSource
        new_token Notice notice_row PageServer PageSink Phase PipeSource SampleClock SettingsTarget Sink SLOWER Source
        SourceListened TextSink wall_offset WebhookSink
    """,
    "panns_litert.measure": """
        add_runs Agreement agreement_of bench Device DeviceRecord ENGINES Failure FORMAT_VERSION insert join Latency
        markdown Measured plot_rungs read_record read_records ROUNDS Run Rung RUNS SECONDS Setting table this_device
        TIMEOUT_SECONDS WARMUP
    """,
    "panns_litert.models": """
        generations is_whole MEASUREMENTS model_names model_row models_table no_model NPU number PROPERTIES TIMES
    """,
    "panns_litert.pictures": """
        BLUE clock drawing EMBEDDED_BYTES FORMATS ORANGE PAGE_BYTES picture_format plot
        ticks Timeline timeline write_page
    """,
    "panns_litert.prototypes": """
        Background clip_units left_out_cosines MOST_BACKGROUND Prototype Prototypes prototypes_path require_new_name
        score_of_cosine THRESHOLD_SCORE with_enrolled
    """,
    "panns_litert.proof": """
        add_one_model adopt Adopted audit_fp16 Clips compare compare_outputs compare_tags DELEGATE_LOG demo_inputs
        few_as_one FEW_CLASSES FLUSH_SHARE FP16_MAX FP16_SMALLEST_NORMAL Gate GATES generated_inputs gpu_check GpuReport
        HELD_OUT_GATES HELD_OUT_LOSSES HELD_OUT_OUTPUTS
        graph_input load_clips PRINTED_LOG publish Published record_gpu require run_child save_clips self_test_check
        self_test_gate TAG_GATES TAG_THRESHOLD TensorRange TIMEOUT_SECONDS why_not_gpu
        compile_npu CompiledNpu DEFAULT_SOC INTEL_CPU npu_check npu_socs npu_targets NpuReport record_npu Refusal
        same_outputs vendor_parts
    """,
    "panns_litert.results": """
        bars Row short
    """,
    "panns_litert.search": """
        clip_embeddings Duplicate DUPLICATE_SCORE embed Embeddings enroll Enrolment find_duplicates FORMATS Hit Index
        Match match match_features MATCH_LIMITS MATCH_SPEC model_sha256 require_same_model similar unit
    """,
    "panns_litert.sense": """
        audioset_nodes class_names nearest Node ONTOLOGY Ontology require_class_names Sense unknown_label
    """,
    "panns_litert.settings": """
        FIELDS TaggerSettings
    """,
    "panns_litert.strict": """
        MOST_BYTES parse_json printable read read_bytes read_json read_text shown
    """,
    "panns_litert.tagger": """
        EngineName ENGINES require_choice Tag Tagger Tagging Threshold top_tags TruncationWarning
    """,
    "panns_litert.windows": """
        Aggregate AggregateName AGGREGATES audio_chunks event_hop EventStream find_events LiveEvents LongTagging
        Recording StreamTagger tag_long Window windows
    """,
    "panns_litert.words": """
        counted did_you_mean
    """,
}


@pytest.mark.parametrize("package", NAMES)
def test_every_name_is_there(package: str) -> None:
    module, names = importlib.import_module(package), NAMES[package].split()
    assert [name for name in names if not hasattr(module, name)] == []
    if hasattr(module, "__all__"):
        assert sorted(module.__all__) == sorted(names), "a new public name belongs into this list, too"
