package io.github.pannslitert.measure

import io.github.pannslitert.BundleException
import io.github.pannslitert.EngineException
import io.github.pannslitert.StrictJson
import io.github.pannslitert.MOST_JSON_BYTES
import io.github.pannslitert.decodeUtf8
import io.github.pannslitert.readAtMost
import io.github.pannslitert.bundle.Bundle
import io.github.pannslitert.bundle.BundleFiles
import io.github.pannslitert.bundle.Manifest
import io.github.pannslitert.tagging.Engine
import io.github.pannslitert.tagging.Tagger
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.security.MessageDigest
import kotlin.math.abs
import kotlin.math.max
import kotlin.math.sqrt

/**
 * The self-test of a bundle, as `panns-litert convert` writes it: a recording and PyTorch's probabilities for it.
 *
 * @property samples mono, at the model's sample rate, within [-1, 1]; the rest of the clip is silence
 * @property probs PyTorch's probabilities, one per class; in a bundle that is not proven, those of its own model on
 *     another computer
 */
class SelfTest private constructor(val samples: FloatArray, val probs: FloatArray) {
    /**
     * Runs an engine on the recording.
     *
     * @param gate limits for the difference from PyTorch, and from [other]
     * @param other probabilities of another engine for the same recording, or null
     * @throws EngineException the outputs do not match the manifest. Exceptions of the engine are passed on
     */
    fun run(bundle: Bundle, engine: Engine, gate: Gate, other: FloatArray? = null): Result {
        val tagger = Tagger(bundle, engine, top = 1)
        tagger.tag(samples) // the first run of an accelerator may include compilation: its time does not count
        val tagging = tagger.tag(samples)
        return Result(
            probs = tagging.probs,
            withPytorch = compare(tagging.probs, probs, gate),
            withOther = other?.let { compare(tagging.probs, it, gate) },
            frontEndMs = tagging.frontEndMs,
            modelMs = tagging.modelMs,
        )
    }

    /**
     * Limits of a comparison: the largest error of a probability, the smallest correlation or null for no limit, and
     * whether the five highest classes must agree.
     */
    data class Gate(val maxAbs: Double, val corr: Double?, val top5: Boolean) {
        companion object {
            /** For all GPUs, which compute in float16. The same limits as `gpu_fp16` in the Python runtime. */
            val GPU = Gate(maxAbs = 0.05, corr = 0.999, top5 = false)

            /** For a bundle on the CPU: the limits of its own conversion, from its manifest. */
            fun cpu(manifest: Manifest): Gate {
                val proof = manifest.probsCheck
                val bounds = proof.threshold
                return Gate(bounds.getValue("max_abs"), bounds["corr"], top5 = manifest.precision != "fp32")
            }
        }
    }

    /**
     * Figures and verdict of a comparison, as `Check` in the Python runtime. A figure that cannot be computed is null.
     * [why] is the reason of a failure; it is empty if the comparison passed.
     */
    data class Comparison(val maxAbs: Double?, val corr: Double?, val top5: Int?, val why: String) {
        val passed: Boolean get() = why.isEmpty()
    }

    /** The result of an engine for the recording. */
    class Result(
        val probs: FloatArray,
        val withPytorch: Comparison,
        val withOther: Comparison?,
        val frontEndMs: Double,
        val modelMs: Double,
    ) {
        /** Why the engine must not be used; empty if it can be used. */
        val why: String
            get() = listOfNotNull(
                withPytorch.why.ifEmpty { null }?.let { "against the bundle: $it" },
                withOther?.why?.ifEmpty { null }?.let { "against the CPU: $it" },
            ).joinToString("; ")
    }

    companion object {
        private const val FORMAT_VERSION = 1
        private const val REMEDY = "convert the bundle again: panns-litert convert"

        /**
         * Opens the self-test of a bundle.
         *
         * @param files where the self-test is
         * @throws BundleException the self-test is missing or altered, or belongs to another model
         */
        fun open(bundle: Bundle, files: BundleFiles = bundle.files): SelfTest {
            if (bundle.manifest.files.values.none { it.role == "selftest" }) {
                throw BundleException("$files has no self-test; $REMEDY")
            }
            try {
                return read(files, bundle)
            } catch (error: IOException) {
                throw BundleException("$files: ${error.message}; $REMEDY", error)
            } catch (error: BundleException) {
                throw BundleException("$files: ${error.message}; $REMEDY", error)
            }
        }

        private fun read(files: BundleFiles, bundle: Bundle): SelfTest {
            val manifest = bundle.manifest
            val (name, samplesName) = manifest.file("selftest") to manifest.file("selftest_samples")
            val text = decodeUtf8(files.open(name).readAtMost(MOST_JSON_BYTES, name), name)
            val json = StrictJson.parse(text, "self-test")
            val version = json.int("format_version")
            if (version != FORMAT_VERSION) json.fail("format_version $version; this version reads $FORMAT_VERSION")
            val probs = json.numbers("probs")
            val samples = json.int("samples")
            val pcm = files.open(samplesName).readAtMost(2L * manifest.clipSamples, samplesName)
            val expected = mapOf(
                "model_sha256" to (json.string("model_sha256") to bundle.modelSha256),
                "sample_rate" to (json.int("sample_rate") to manifest.frontEnd.sampleRate),
                "number of probs" to (probs.size to manifest.classes),
                "bytes of $samplesName" to (pcm.size to 2 * samples),
                "samples_sha256" to (json.string("samples_sha256") to sha256(pcm)),
            )
            json.requireNoOther()
            for ((name, values) in expected) {
                if (values.first != values.second) json.fail("$name ${values.first}; expected ${values.second}")
            }
            if (samples !in 1..manifest.clipSamples) {
                json.fail("samples $samples; expected 1 … ${manifest.clipSamples}")
            }
            if (probs.any { it !in 0.0..1.0 }) json.fail("probs outside 0 … 1")
            val values = ByteBuffer.wrap(pcm).order(ByteOrder.LITTLE_ENDIAN).asShortBuffer()
            return SelfTest(FloatArray(samples) { values[it] / 32768f }, FloatArray(probs.size) { probs[it].toFloat() })
        }

        private fun sha256(bytes: ByteArray): String =
            MessageDigest.getInstance("SHA-256").digest(bytes).joinToString("") { "%02x".format(it) }

        /**
         * Compares probabilities with a reference, like `compare` in the Python runtime for one clip. NaN, an output of
         * only zeros, a flat reference and a different number of classes never pass.
         */
        fun compare(got: FloatArray, reference: FloatArray, gate: Gate): Comparison {
            fun failed(why: String) = Comparison(null, null, null, why)
            if (got.size != reference.size || got.isEmpty()) {
                return failed("${got.size} values; expected ${reference.size}")
            }
            if (!reference.all(Float::isFinite)) return failed("the reference holds NaN or Inf")
            if (!got.all(Float::isFinite)) return failed("${got.count { !it.isFinite() }} values are NaN or Inf")
            if (reference.all { it == reference[0] }) return failed("the reference is flat: nothing is tested")
            val maxAbs = got.indices.maxOf { abs(got[it].toDouble() - reference[it]) }
            val corr = correlation(got, reference)
            val (decided, kept) = top5(got, reference, maxAbs)
            val why = buildList {
                if (got.all { it == 0f }) add("the output is all zero")
                if (maxAbs > gate.maxAbs) add("max abs error %.3g > %.3g".format(maxAbs, gate.maxAbs))
                if (gate.corr != null && !(corr >= gate.corr)) add("correlation %.6f < %s".format(corr, gate.corr))
                if (gate.top5 && kept < decided) add("another class is among the five highest, by more than the error")
            }
            return Comparison(maxAbs, corr, top5 = 5 - (decided - kept), why = why.joinToString("; "))
        }

        /** Pearson correlation; −1 for a flat output, for which it is undefined. */
        private fun correlation(a: FloatArray, b: FloatArray): Double {
            val meanA = a.sumOf(Float::toDouble) / a.size
            val meanB = b.sumOf(Float::toDouble) / b.size
            var (ab, aa, bb) = listOf(0.0, 0.0, 0.0)
            for (i in a.indices) {
                val (x, y) = a[i] - meanA to b[i] - meanB
                ab += x * y
                aa += x * x
                bb += y * y
            }
            val norm = sqrt(aa) * sqrt(bb)
            return if (norm > 0) max(-1.0, ab / norm) else -1.0
        }

        /**
         * The number of the reference's five highest classes that exceed the sixth by more than [error], and how many
         * of these are among the five highest of [got].
         */
        private fun top5(got: FloatArray, reference: FloatArray, error: Double): Pair<Int, Int> {
            if (reference.size <= 5) return 0 to 0
            val order = reference.indices.sortedByDescending { reference[it] }
            val decided = order.take(5).filter { reference[it].toDouble() - reference[order[5]] > error }
            val found = got.indices.sortedByDescending { got[it] }.take(5)
            return decided.size to decided.count { it in found }
        }
    }
}
