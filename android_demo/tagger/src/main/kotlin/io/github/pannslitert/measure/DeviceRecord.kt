package io.github.pannslitert.measure

import com.google.gson.GsonBuilder
import com.google.gson.JsonArray
import com.google.gson.JsonObject
import io.github.pannslitert.BundleException
import io.github.pannslitert.MOST_JSON_BYTES
import io.github.pannslitert.RecordException
import io.github.pannslitert.StrictJson
import io.github.pannslitert.bundle.Manifest
import io.github.pannslitert.decodeUtf8
import io.github.pannslitert.readRegular
import java.io.File
import java.io.IOException
import java.time.LocalDate
import java.time.format.DateTimeParseException
import kotlin.math.floor

/** A device on which models were measured. The format is that of `Device` in the Python runtime. */
data class Device(val name: String, val os: String, val cpu: String, val cores: Int, val memoryBytes: Long) {
    /** The name as part of a file name: "Phone 8" becomes "phone-8". */
    val slug: String get() = name.lowercase().replace(NOT_PLAIN, "-").trim('-')

    init {
        requireRecord(slug.isNotEmpty()) { "device name \"$name\"; expected at least one letter a-z or digit" }
        requireTexts("os" to os, "cpu" to cpu)
        requirePositive("cores" to cores, "memory_bytes" to memoryBytes)
    }

    private companion object {
        val NOT_PLAIN = Regex("[^a-z0-9]+")
    }
}

/**
 * Time of one inference in milliseconds, including the copies of its input and outputs: median, 10th and 90th
 * percentile, minimum.
 */
data class Latency(val median: Double, val p10: Double, val p90: Double, val min: Double) {
    init {
        requirePositive("median" to median, "p10" to p10, "p90" to p90, "min" to min)
        requireRecord(min <= p10 && p10 <= median && median <= p90) { "ms $this; expected min ≤ p10 ≤ median ≤ p90" }
    }

    companion object {
        /** Statistics of times in milliseconds. Percentiles between two values are interpolated. */
        fun of(ms: List<Double>): Latency {
            requireRecord(ms.isNotEmpty()) { "no times; expected at least one" }
            val sorted = ms.sorted()
            fun percentile(share: Double): Double {
                val at = share * (sorted.size - 1)
                val below = floor(at).toInt()
                val above = minOf(below + 1, sorted.size - 1)
                return sorted[below] + (at - below) * (sorted[above] - sorted[below])
            }
            return Latency(median = percentile(0.5), p10 = percentile(0.1), p90 = percentile(0.9), min = sorted[0])
        }
    }
}

/**
 * Agreement of a model with PyTorch: figures of the parity checks in its bundle, at the stage of its precision.
 *
 * @property maxAbsProb largest error of a probability, 0 … 1
 * @property corr smallest correlation of the probabilities of a clip, -1 … 1
 * @property tags number of tags that both have, divided by the number of tags that either has, 0 … 1; null if they were
 *     not compared
 */
data class Agreement(val maxAbsProb: Double, val corr: Double, val tags: Double?) {
    init {
        val holds = maxAbsProb in 0.0..1.0 && corr in -MOST_CORR..MOST_CORR && (tags ?: 0.0) in 0.0..1.0
        requireRecord(holds) { "agreement: max_abs_prob, corr or tags of $this; expected figures within 0 … 1" }
    }

    companion object {
        /** Largest accepted correlation: rounding errors can bring a correlation slightly above 1. */
        private const val MOST_CORR = 1.000001

        /** The agreement in the manifest of a bundle; null if it has no figures for probabilities. */
        fun of(manifest: Manifest): Agreement? {
            val checks = manifest.parity.filter { it.stage == manifest.precision }.associateBy { it.output }
            val probs = checks["probs"] ?: return null
            // The check of tags records the share of tags that differ.
            val tags = checks["tags"]?.maxAbs?.let { 1.0 - it }
            return Agreement(probs.maxAbs ?: return null, probs.corr ?: return null, tags)
        }
    }
}

/**
 * The measurement of one model on one engine with one setting. The fields are those of `Run` in the Python runtime.
 *
 * @property engine "cpu" or "gpu"; "gpu" means the whole graph on the GPU only
 * @property adapter name of the GPU; null for the CPU
 * @property resident number of operators that ran on the GPU; null for the CPU
 * @property xnnpack whether the CPU used XNNPACK's kernels; null for the GPU
 * @property threads number of threads of the CPU; null for the GPU
 * @property firstMs time from opening the file to the first outputs, milliseconds
 * @property peakMemoryBytes largest resident memory of the whole process so far, bytes
 */
data class Run(
    val model: String,
    val network: String,
    val precision: String,
    val graph: String,
    val clipSeconds: Double,
    val modelBytes: Long,
    val modelSha256: String,
    val engine: String,
    val adapter: String?,
    val driver: String?,
    val xnnpack: Boolean?,
    val threads: Int?,
    val versions: Map<String, String>,
    val warmup: Int,
    val runs: Int,
    val ms: Latency,
    val firstMs: Double,
    val peakMemoryBytes: Long,
    val operators: Int,
    val resident: Int?,
    val date: String,
    val agreement: Agreement?,
) {
    /** What was measured. A new run replaces an older run with the same key. */
    val key: List<Any?> get() = listOf(model, precision, graph, clipSeconds, engine, threads, xnnpack)

    init {
        requireTexts("model" to model, "network" to network, "precision" to precision)
        requireRecord(graph in GRAPHS) { "graph \"$graph\"; expected one of ${GRAPHS.joinToString()}" }
        requireRecord(engine in ENGINES) { "engine \"$engine\"; expected one of ${ENGINES.joinToString()}" }
        requireRecord(SHA256.matches(modelSha256)) { "model_sha256 \"$modelSha256\"; expected 64 hexadecimal digits" }
        requirePositive(
            "clip_seconds" to clipSeconds, "model_bytes" to modelBytes, "runs" to runs, "first_ms" to firstMs,
            "peak_memory_bytes" to peakMemoryBytes, "operators" to operators,
        )
        requireRecord(warmup >= 0) { "warmup $warmup; expected at least 0" }
        requireRecord(versions.isNotEmpty() && versions.all { it.key.isNotBlank() && it.value.isNotBlank() }) {
            "versions $versions; expected names and versions"
        }
        requireRecord(isDay(date)) { "date \"$date\"; expected YYYY-MM-DD" }
        val onGpu = engine == "gpu"
        for ((name, value) in listOf("adapter" to adapter, "resident" to resident)) {
            requireRecord((value != null) == onGpu) { "$name $value of a $engine run; expected it of the GPU alone" }
        }
        for ((name, value) in listOf("xnnpack" to xnnpack, "threads" to threads)) {
            requireRecord((value == null) == onGpu) { "$name $value of a $engine run; expected it of the CPU alone" }
        }
        requireRecord(driver == null || onGpu) { "driver $driver of a cpu run; expected it of the GPU alone" }
        requireTexts("adapter" to (adapter ?: "none"), "driver" to (driver ?: "none"))
        requireRecord(threads == null || threads >= 1) { "threads $threads; expected at least 1" }
        requireRecord(resident == null || resident in 0..operators) {
            "resident $resident of $operators operators; expected 0 … operators"
        }
    }

    private companion object {
        val GRAPHS = listOf("logmel", "waveform")
        val ENGINES = listOf("cpu", "gpu")
        val SHA256 = Regex("[0-9a-f]{64}")
        val DAY = Regex("[0-9]{4}-[0-9]{2}-[0-9]{2}")

        fun isDay(text: String): Boolean = try {
            DAY.matches(text) && LocalDate.parse(text).year > 0
        } catch (_: DateTimeParseException) {
            false
        }
    }
}

/**
 * A device and all measurements on it: one JSON file, format 1, as `panns-litert bench` writes it.
 *
 * @throws RecordException on construction of this class and its parts: a value is out of range, or two runs measure the
 *     same thing
 */
data class DeviceRecord(val device: Device, val runs: List<Run>) {
    init {
        val twice = runs.groupBy { it.key }.values.firstOrNull { it.size > 1 }
        requireRecord(twice == null) { "two runs of ${twice?.first()?.key?.joinToString(" ")}; expected one each" }
    }

    /** A copy with more runs. A new run replaces an older run with the same key. */
    fun with(more: List<Run>): DeviceRecord =
        copy(runs = (runs.associateBy { it.key } + more.associateBy { it.key }).values.toList())

    /** The record as JSON. */
    fun toJson(): String {
        val json = JsonObject()
        json.addProperty("format_version", FORMAT_VERSION)
        json.add(
            "device",
            JsonObject().apply {
                addProperty("name", device.name)
                addProperty("os", device.os)
                addProperty("cpu", device.cpu)
                addProperty("cores", device.cores)
                addProperty("memory_bytes", device.memoryBytes)
            },
        )
        json.add("runs", JsonArray().apply { runs.forEach { add(written(it)) } })
        return GSON.toJson(json) + "\n"
    }

    companion object {
        /** Version of the format that is read and written. */
        const val FORMAT_VERSION = 1

        // The format contains null. Names are written as they are, without HTML escapes.
        private val GSON = GsonBuilder().serializeNulls().disableHtmlEscaping().setPrettyPrinting().create()

        /**
         * Reads the record in a file.
         *
         * @throws RecordException the file is not a valid record; the message names the file, what was wrong and what
         *     was expected
         */
        fun read(file: File): DeviceRecord = try {
            parse(decodeUtf8(readRegular(file, MOST_JSON_BYTES), file.name))
        } catch (error: IOException) {
            throw RecordException("$file: ${error.message}; expected a device record", error)
        } catch (error: RecordException) {
            throw RecordException("$file: ${error.message}", error)
        }

        /**
         * Parses the text of a record. All fields of the format are required, and no others are allowed.
         *
         * @throws RecordException the text is not JSON, or not in this format
         */
        fun parse(text: String): DeviceRecord {
            try {
                val json = StrictJson.parse(text, "record")
                val version = json.int("format_version") // read first: in another version, other fields may differ too
                if (version != FORMAT_VERSION) {
                    json.fail("format_version $version; this version reads $FORMAT_VERSION; update the library")
                }
                return json.whole {
                    DeviceRecord(child("device").whole { device() }, children("runs").map { it.whole { run() } })
                }
            } catch (error: BundleException) { // thrown by StrictJson
                throw RecordException(error.message.orEmpty(), error)
            }
        }

        private fun StrictJson.device() =
            Device(string("name"), string("os"), string("cpu"), int("cores"), long("memory_bytes"))

        private fun StrictJson.run() = Run(
            model = string("model"),
            network = string("network"),
            precision = string("precision"),
            graph = string("graph"),
            clipSeconds = number("clip_seconds"),
            modelBytes = long("model_bytes"),
            modelSha256 = string("model_sha256"),
            engine = string("engine"),
            adapter = optional("adapter", StrictJson::string),
            driver = optional("driver", StrictJson::string),
            xnnpack = optional("xnnpack", StrictJson::boolean),
            threads = optional("threads", StrictJson::int),
            versions = map("versions", StrictJson::string),
            warmup = int("warmup"),
            runs = int("runs"),
            ms = child("ms").whole { Latency(number("median"), number("p10"), number("p90"), number("min")) },
            firstMs = number("first_ms"),
            peakMemoryBytes = long("peak_memory_bytes"),
            operators = int("operators"),
            resident = optional("resident", StrictJson::int),
            date = string("date"),
            agreement = optional("agreement") { name ->
                child(name).whole {
                    Agreement(number("max_abs_prob"), number("corr"), optional("tags", StrictJson::number))
                }
            },
        )

        private fun written(run: Run) = JsonObject().apply {
            addProperty("model", run.model)
            addProperty("network", run.network)
            addProperty("precision", run.precision)
            addProperty("graph", run.graph)
            addProperty("clip_seconds", run.clipSeconds)
            addProperty("model_bytes", run.modelBytes)
            addProperty("model_sha256", run.modelSha256)
            addProperty("engine", run.engine)
            addProperty("adapter", run.adapter)
            addProperty("driver", run.driver)
            addProperty("xnnpack", run.xnnpack)
            addProperty("threads", run.threads)
            add("versions", JsonObject().apply { run.versions.forEach { (name, value) -> addProperty(name, value) } })
            addProperty("warmup", run.warmup)
            addProperty("runs", run.runs)
            add(
                "ms",
                JsonObject().apply {
                    addProperty("median", run.ms.median)
                    addProperty("p10", run.ms.p10)
                    addProperty("p90", run.ms.p90)
                    addProperty("min", run.ms.min)
                },
            )
            addProperty("first_ms", run.firstMs)
            addProperty("peak_memory_bytes", run.peakMemoryBytes)
            addProperty("operators", run.operators)
            addProperty("resident", run.resident)
            addProperty("date", run.date)
            add(
                "agreement",
                run.agreement?.let {
                    JsonObject().apply {
                        addProperty("max_abs_prob", it.maxAbsProb)
                        addProperty("corr", it.corr)
                        addProperty("tags", it.tags)
                    }
                },
            )
        }
    }
}

private fun requireRecord(holds: Boolean, message: () -> String) {
    if (!holds) throw RecordException(message())
}

private fun requireTexts(vararg fields: Pair<String, String>) {
    for ((name, value) in fields) requireRecord(value.isNotBlank()) { "$name \"$value\"; expected some text" }
}

private fun requirePositive(vararg fields: Pair<String, Number>) {
    for ((name, value) in fields) {
        requireRecord(value.toDouble() > 0 && value.toDouble().isFinite()) { "$name $value; expected a number > 0" }
    }
}
