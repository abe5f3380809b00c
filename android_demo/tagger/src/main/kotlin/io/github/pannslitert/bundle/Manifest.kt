package io.github.pannslitert.bundle

import io.github.pannslitert.BundleException
import io.github.pannslitert.SpecException
import io.github.pannslitert.StrictJson
import io.github.pannslitert.frontend.FrontEndSpec

/** Name, static shape and dtype of an input or output of the model. */
data class TensorSpec(val name: String, val shape: List<Int>, val dtype: String = "float32")

/** Role of a file in the bundle, with the hash and size that show whether it was altered. */
data class FileRecord(val role: String, val sha256: String, val bytes: Long)

/** The checkpoint from which a bundle was made, or the model file that was adopted without proof. */
data class Source(
    val file: String,
    val sha256: String,
    val url: String?,
    val licence: String,
    val attribution: String,
    val publishedMap: Double?,
)

/**
 * Error figures and verdict of one parity check: one output of the model at one stage of the conversion. A figure that
 * could not be computed is null.
 */
data class ParityCheck(
    val stage: String,
    val output: String,
    val maxAbs: Double?,
    val rmse: Double?,
    val corr: Double?,
    val psnrDb: Double?,
    val top5Agree: Double?,
    val threshold: Map<String, Double>,
    val passed: Boolean,
    val why: String,
)

/**
 * The result of the last strict GPU check of the bundle's model. The fields are those of `GpuRecord` in the Python
 * runtime.
 */
data class GpuRecord(
    val adapter: String,
    val driver: String,
    val arithmetic: String,
    val operators: Int,
    val resident: Boolean,
    val refused: List<String>,
    val errors: List<String>,
    val reference: String,
    val checks: List<ParityCheck>,
    val passed: Boolean,
    val modelSha256: String,
    val litert: String,
)

/**
 * The result of the last check of the bundle's model for one NPU. The fields are those of `NpuRecord` in the Python
 * runtime.
 */
data class NpuRecord(
    val soc: String,
    val architecture: String?,
    val arithmetic: String?,
    val operators: Int,
    val taken: Int,
    val partitions: Int,
    val resident: Boolean,
    val refused: List<String>,
    val errors: List<String>,
    val checks: List<ParityCheck>,
    val compiledBytes: Long?,
    val outputsSha256: String?,
    val passed: Boolean,
    val modelSha256: String,
    val versions: Map<String, String>,
)

/**
 * A layer of a quantized model whose weights have a more precise type than the precision of the bundle.
 *
 * @property operator index of the layer in the float32 graph
 * @property error error of logits and embedding if only this layer is quantized: mean square divided by variance
 */
data class KeptLayer(
    val operator: Int,
    val op: String,
    val name: String,
    val weights: Long,
    val precision: String,
    val error: Double,
)

/** How a bundle with integer weights was made. The fields are those of `Quantization` in the Python runtime. */
data class Quantization(val kept: List<KeptLayer>, val calibrationClips: Int)

/**
 * The content of a bundle's manifest.json, format 2 or 3. Checked on construction.
 *
 * @property formatVersion 2 for what `panns-litert convert` wrote; 3 for a model that was made elsewhere, which may lack
 *     proof and embedding
 * @property graph input of the model: "logmel" or "waveform"
 * @property logMel where the log-mel is computed: "host", "graph", or "none" if the network does not use one
 * @property quantization null for the precisions fp32 and fp16, which have no integer weights, and in format 3
 * @throws BundleException fields contradict each other, or a stage of the conversion has no passed parity check
 */
data class Manifest(
    val formatVersion: Int,
    val model: String,
    val network: String,
    val description: String,
    val source: Source,
    val frontEnd: FrontEndSpec,
    val graph: String,
    val logMel: String,
    val clipSeconds: Double,
    val inputs: List<TensorSpec>,
    val outputs: List<TensorSpec>,
    val files: Map<String, FileRecord>,
    val precision: String,
    val quantization: Quantization?,
    val parity: List<ParityCheck>,
    val gpu: GpuRecord?,
    val npu: List<NpuRecord>,
    val versions: Map<String, String>,
) {
    /** Length of one clip, samples. */
    val clipSamples: Int get() = frontEnd.samples(clipSeconds)

    /** Number of classes. */
    val classes: Int get() = outputs[0].shape[1]

    /** Length of the embedding; 0 if the model has none. */
    val embeddingSize: Int get() = outputs.firstOrNull { it.name == "embedding" }?.shape?.get(1) ?: 0

    /**
     * Whether every stage compared the model with the original network. If not, the parity has only the stage "engine",
     * and the self-test's probabilities are the model's own: nothing shows that they are right.
     */
    val proven: Boolean get() = parity.map { it.stage }.containsAll(requiredStages())

    /** The bounds of the probabilities: those of the proof, or, without proof, of the stage "engine". */
    internal val probsCheck: ParityCheck
        get() = listOf(precision, ENGINE).firstNotNullOf { stage ->
            parity.firstOrNull { it.stage == stage && it.output == "probs" }
        }

    /** Name of the file with the given role: model, mel_basis, labels, model_card, selftest or selftest_samples. */
    fun file(role: String): String = files.entries.first { it.value.role == role }.key

    /**
     * Name of the file that is compiled for a SoC's NPU, null for none. No other SoC runs it, and LiteRT needs the
     * vendor's dispatch library for it.
     *
     * @param soc name of the SoC, such as `Build.SOC_MODEL`, in any case
     */
    fun npuFile(soc: String): String? = files.entries
        .firstOrNull { it.value.role == NPU_MODEL && it.key.endsWith("_${soc.lowercase()}.tflite") }?.key

    init {
        require(graph in GRAPHS) { "graph $graph; expected one of ${GRAPHS.joinToString()}" }
        require(logMel in LOG_MEL && (logMel == "host") == (graph == "logmel")) {
            "log_mel $logMel with graph $graph; expected host with logmel alone"
        }
        require(clipSeconds > 0 && clipSeconds * frontEnd.sampleRate <= MOST_SAMPLES) {
            "clip_seconds $clipSeconds; expected a number > 0 that makes at most $MOST_SAMPLES samples"
        }
        require(logMel == "none" || clipSamples >= frontEnd.leastSamples) {
            "clip_seconds $clipSeconds; the front end takes at least ${frontEnd.leastSamples} samples"
        }
        frontEnd.mostSamples?.let { most ->
            require(clipSamples <= most) { "clip_seconds $clipSeconds; the front end has room for $most samples" }
        }
        val logMelShape = listOf(1, 1, frontEnd.frames(clipSamples), frontEnd.nMels)
        val shape = if (graph == "logmel") logMelShape else listOf(1, clipSamples)
        require(inputs == listOf(TensorSpec(graph, shape))) {
            "inputs $inputs; the front end and clip_seconds give ${TensorSpec(graph, shape)}"
        }
        requireOutputs()
        requireFiles()
        requireProof()
        requireQuantization()
    }

    private fun requireOutputs() {
        val names = outputs.map { it.name }
        val expected = if (formatVersion == FORMAT_VERSION) listOf("probs", "embedding") else listOf("probs")
        require(names.take(expected.size) == expected) { "outputs $names; expected ${expected.joinToString()}" }
        for (output in outputs) {
            val fits = output.shape.size >= 2 && output.shape[0] == 1 && output.shape.all { it >= 1 }
            require(output.dtype == "float32" && fits) {
                "output $output; expected float32 of shape (1, …)"
            }
        }
    }

    private fun requireFiles() {
        val roles = files.values.map { it.role }.filter { it != NPU_MODEL }.sorted()
        require(roles == ROLES || roles == ROLES + SELF_TEST_ROLES) {
            "files with roles $roles; expected ${ROLES.joinToString()}, one each, " +
                "and ${SELF_TEST_ROLES.joinToString(" and ")} or neither, and any number of $NPU_MODEL"
        }
        for ((name, record) in files) {
            val plain = name.length <= MOST_NAME && name.none { it in "/\\" || it.isISOControl() }
            require(plain && name !in setOf("", ".", "..", Bundle.MANIFEST)) {
                "file name ${name.take(MOST_NAME)}; expected a plain name inside the bundle"
            }
            // The model card is documentation: its hash says what was written, and nothing checks it.
            val most = MOST_BYTES[record.role] ?: continue
            require(record.bytes in 1..most) {
                "$name of ${record.bytes} bytes; expected a ${record.role} of 1 … $most bytes"
            }
        }
    }

    private fun requireProof() {
        require(precision in STAGES) { "precision $precision; expected one of ${STAGES.keys.joinToString()}" }
        require(formatVersion != FORMAT_VERSION || proven) {
            "no proof of every stage; expected ${requiredStages().joinToString()}; convert it again"
        }
        val checked = parity.filter { it.output == "probs" }.map { it.stage }
        require(formatVersion != ADOPTED_VERSION || precision in checked || ENGINE in checked) {
            "no check of probs at $precision or $ENGINE; expected one; adopt it again"
        }
        val unproven = parity.filter { !it.passed || "max_abs" !in it.threshold }.map { "${it.stage}/${it.output}" }
        require(unproven.isEmpty()) { "no proof of ${unproven.joinToString()}; convert it again" }
        requireGpu()
        for (record in npu) requireNpu(record)
        require(npu.distinctBy { it.soc.lowercase() }.size == npu.size) {
            "two NPU results of one SoC; expected one each; run npu-check again"
        }
        requireNpuFiles()
    }

    private fun requireNpu(record: NpuRecord) {
        require(SOC.matches(record.soc)) { "npu \"${record.soc}\"; expected the name of a SoC, such as SM8650" }
        val whole = record.operators > 0 && record.taken == record.operators && record.partitions == 1
        val ran = record.checks.isNotEmpty() && record.refused.isEmpty() && record.errors.isEmpty()
        require(!record.resident || (whole && ran)) {
            "npu ${record.soc}: resident, but its figures say otherwise; run npu-check again"
        }
        require(!record.passed || (record.resident && record.checks.all { it.passed })) {
            "npu ${record.soc}: passed, but its figures say otherwise; run npu-check again"
        }
        require(record.modelSha256 == files.getValue(file("model")).sha256) {
            "an NPU's result is of another .tflite; run npu-check again"
        }
    }

    private fun requireNpuFiles() {
        val sizes = npu.associate { npuFile(it.soc) to it.compiledBytes }
        for ((name, record) in files) {
            require(record.role != NPU_MODEL || sizes[name] == record.bytes) {
                "$name without the result of its NPU; expected it; convert it again"
            }
        }
    }

    private fun requireGpu() {
        if (gpu == null) return
        val whole = gpu.resident && gpu.refused.isEmpty() && gpu.errors.isEmpty()
        val proven = whole && gpu.arithmetic == "float16" && gpu.checks.isNotEmpty() && gpu.checks.all { it.passed }
        require(!gpu.passed || proven) { "gpu: passed, but its figures say otherwise; run gpu-check again" }
        require(gpu.modelSha256 == files.getValue(file("model")).sha256) {
            "the GPU's result is of another .tflite; run gpu-check again"
        }
    }

    private fun requiredStages(): List<String> =
        if (formatVersion == ADOPTED_VERSION) listOf("front_end", "network", precision) else STAGES.getValue(precision)

    private fun requireQuantization() {
        if (formatVersion == ADOPTED_VERSION) {
            require(quantization == null) { "quantization $quantization in format $ADOPTED_VERSION; expected none" }
            return
        }
        require((quantization != null) == (precision in QUANTIZED)) {
            "quantization $quantization with precision $precision; expected it with integer weights"
        }
        if (quantization == null) return
        val clips = quantization.calibrationClips
        require((clips > 0) == (precision == "int8-full")) { "calibration_clips $clips with precision $precision" }
        for (layer in quantization.kept) {
            val figures = layer.operator >= 0 && layer.weights >= 0 && layer.error >= 0
            require(figures && layer.precision in FINER) {
                "kept layer $layer; expected figures >= 0 and one of ${FINER.joinToString()}"
            }
        }
    }

    private inline fun require(holds: Boolean, message: () -> String) {
        if (!holds) throw BundleException(message())
    }

    companion object {
        /** Version of the format of bundles that `panns-litert convert` wrote. */
        const val FORMAT_VERSION = 2

        /** Version of the format of bundles that `panns-litert adopt` wrote. */
        const val ADOPTED_VERSION = 3

        private val SOC = Regex("[A-Za-z0-9][A-Za-z0-9-]*")

        /**
         * Role of a file that was compiled ahead of time for one NPU. It runs on that SoC alone, and [file] with the
         * role "model" never gives it.
         */
        const val NPU_MODEL = "npu_model"

        private const val ENGINE = "engine"
        private const val MOST_SAMPLES = 100_000_000.0
        private const val MOST_NAME = 255
        private val MOST_BYTES = mapOf(
            "model" to Int.MAX_VALUE.toLong(),
            NPU_MODEL to Int.MAX_VALUE.toLong(),
            "mel_basis" to (64L shl 20),
            "labels" to (4L shl 20),
            "selftest" to (4L shl 20),
            "selftest_samples" to (4L shl 20),
        )
        private val GRAPHS = listOf("logmel", "waveform")
        private val LOG_MEL = listOf("host", "graph", "none")
        private val ROLES = listOf("labels", "mel_basis", "model", "model_card")
        private val SELF_TEST_ROLES = listOf("selftest", "selftest_samples") // bundles of earlier versions have none
        private val QUANTIZED = listOf("int8", "int8-weights", "int8-full", "int4-weights")
        private val FINER = listOf("int8", "fp16", "fp32")
        private val STAGES =
            (listOf("fp32", "fp16") + QUANTIZED).associateWith { listOf("front_end", "network", "fp32", it).distinct() }

        /**
         * Parses the text of a manifest.json. All fields of the format but "npu" are required, no others allowed.
         *
         * @throws BundleException the text is not JSON, or not in this format
         */
        fun parse(text: String): Manifest {
            val json = StrictJson.parse(text, "manifest")
            val version = json.int("format_version") // read first: in another version, other fields may differ too
            if (version != FORMAT_VERSION && version != ADOPTED_VERSION) {
                json.fail(
                    "format_version $version; this version reads $FORMAT_VERSION and $ADOPTED_VERSION; " +
                        "update the library or convert the model again",
                )
            }
            val manifest = try {
                read(json, version)
            } catch (error: SpecException) {
                throw BundleException(error.message.orEmpty(), error)
            }
            json.requireNoOther()
            return manifest
        }

        private fun read(json: StrictJson, version: Int) = Manifest(
            formatVersion = version,
            model = json.string("model"),
            network = json.string("network"),
            description = json.string("description"),
            source = json.child("source").whole {
                Source(
                    file = string("file"),
                    sha256 = string("sha256"),
                    url = optional("url", StrictJson::string),
                    licence = string("licence"),
                    attribution = string("attribution"),
                    publishedMap = optional("published_map", StrictJson::number),
                )
            },
            frontEnd = json.child("front_end").whole(FrontEndSpec::from),
            graph = json.string("graph"),
            logMel = json.string("log_mel"),
            clipSeconds = json.number("clip_seconds"),
            inputs = json.children("inputs").map(::tensor),
            outputs = json.children("outputs").map(::tensor),
            files = json.map("files") { name ->
                child(name).whole { FileRecord(string("role"), sha256 = string("sha256"), bytes = long("bytes")) }
            },
            precision = json.string("precision"),
            quantization = json.optional("quantization") { child(it).whole(::quantization) },
            parity = json.children("parity").map(::check),
            gpu = json.optional("gpu") { child(it).whole(::gpuRecord) },
            npu = json.given("npu") { name -> children(name).map { it.whole(::npuRecord) } }.orEmpty(),
            versions = json.map("versions", StrictJson::string),
        )

        private fun tensor(json: StrictJson) = json.whole {
            TensorSpec(name = string("name"), shape = ints("shape"), dtype = string("dtype"))
        }

        private fun check(json: StrictJson) = json.whole {
            ParityCheck(
                stage = string("stage"),
                output = string("output"),
                maxAbs = optional("max_abs", StrictJson::number),
                rmse = optional("rmse", StrictJson::number),
                corr = optional("corr", StrictJson::number),
                psnrDb = optional("psnr_db", StrictJson::number),
                top5Agree = optional("top5_agree", StrictJson::number),
                threshold = map("threshold", StrictJson::number),
                passed = boolean("passed"),
                why = string("why"),
            )
        }

        private fun quantization(json: StrictJson) = Quantization(
            kept = json.children("kept").map { layer ->
                layer.whole {
                    KeptLayer(
                        operator = int("operator"),
                        op = string("op"),
                        name = string("name"),
                        weights = long("weights"),
                        precision = string("precision"),
                        error = number("error"),
                    )
                }
            },
            calibrationClips = json.int("calibration_clips"),
        )

        private fun npuRecord(json: StrictJson) = NpuRecord(
            soc = json.string("soc"),
            architecture = json.optional("architecture", StrictJson::string),
            arithmetic = json.optional("arithmetic", StrictJson::string),
            operators = json.int("operators"),
            taken = json.int("taken"),
            partitions = json.int("partitions"),
            resident = json.boolean("resident"),
            refused = json.strings("refused"),
            errors = json.strings("errors"),
            checks = json.children("checks").map(::check),
            compiledBytes = json.optional("compiled_bytes", StrictJson::long),
            outputsSha256 = json.optional("outputs_sha256", StrictJson::string),
            passed = json.boolean("passed"),
            modelSha256 = json.string("model_sha256"),
            versions = json.map("versions", StrictJson::string),
        )

        private fun gpuRecord(json: StrictJson) = GpuRecord(
            adapter = json.string("adapter"),
            driver = json.string("driver"),
            arithmetic = json.string("arithmetic"),
            operators = json.int("operators"),
            resident = json.boolean("resident"),
            refused = json.strings("refused"),
            errors = json.strings("errors"),
            reference = json.string("reference"),
            checks = json.children("checks").map(::check),
            passed = json.boolean("passed"),
            modelSha256 = json.string("model_sha256"),
            litert = json.string("litert"),
        )
    }
}
