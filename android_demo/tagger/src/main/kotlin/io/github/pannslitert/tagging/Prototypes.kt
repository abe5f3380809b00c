package io.github.pannslitert.tagging

import io.github.pannslitert.BundleException
import io.github.pannslitert.PrototypeException
import io.github.pannslitert.StrictJson
import io.github.pannslitert.bundle.Bundle
import io.github.pannslitert.decodeUtf8
import io.github.pannslitert.events.EventSettings
import io.github.pannslitert.readRegular
import java.io.File
import java.io.IOException
import kotlin.math.abs
import kotlin.math.exp
import kotlin.math.sqrt

/**
 * A class of the user's own.
 *
 * @property count number of clips that the mean was taken over, ≥ 1
 * @property threshold least cosine of a window that counts as this class, -1 … 1
 * @property scale cosine for one unit of the score's logit, > 0
 * @property mean a unit vector
 */
class Prototype internal constructor(
    val name: String,
    val count: Int,
    val threshold: Double,
    val scale: Double,
    val mean: FloatArray,
) {
    /** The score for a cosine with the mean: it grows with the cosine and is 0.5 at the threshold. */
    internal fun score(cosine: Double): Float = (1.0 / (1.0 + exp((threshold - cosine) / scale))).toFloat()
}

/**
 * Classes of the user's own: mean directions of embeddings, which `panns-litert enroll` writes. Give them to a [Tagger]:
 * their scores then follow those of the model's classes in every result.
 *
 * @property model name of the model
 * @property modelSha256 SHA-256 of the .tflite that the embeddings are from
 * @property dim length of an embedding
 * @property classes the prototypes, with different names
 */
class Prototypes private constructor(
    val model: String,
    val modelSha256: String,
    val dim: Int,
    val classes: List<Prototype>,
) {
    /** The class names, in the order of [scores]. */
    val labels: List<String> get() = classes.map { it.name }

    /**
     * The cosines of an embedding with the mean of every class, -1 … 1.
     *
     * @throws PrototypeException there is no class, or the embedding has another length, is zero or not finite
     */
    fun cosines(embedding: FloatArray): DoubleArray {
        if (classes.isEmpty()) throw PrototypeException("no class yet; expected at least one: panns-litert enroll")
        if (embedding.size != dim) throw PrototypeException("an embedding of ${embedding.size} numbers; expected $dim")
        val norm = sqrt(embedding.sumOf { it.toDouble() * it })
        if (!(norm > 0.0 && norm.isFinite())) {
            throw PrototypeException("an embedding is zero or not finite; expected a clip in which something is heard")
        }
        return DoubleArray(classes.size) { k ->
            val mean = classes[k].mean
            (mean.indices.sumOf { mean[it].toDouble() * embedding[it] } / norm).coerceIn(-1.0, 1.0)
        }
    }

    /**
     * The scores of an embedding, 0 … 1; 0.5 is the threshold of a class. An embedding of zeros, in which the model
     * hears nothing, scores 0.
     *
     * @throws PrototypeException there is no class, or the embedding has another length or is not finite
     */
    fun scores(embedding: FloatArray): FloatArray {
        if (classes.isNotEmpty() && embedding.size == dim && embedding.all { it == 0f }) return FloatArray(classes.size)
        val cosines = cosines(embedding)
        return FloatArray(classes.size) { classes[it].score(cosines[it]) }
    }

    /**
     * The class with the highest score, and that score; null if no class reaches its threshold.
     *
     * @throws PrototypeException as [scores]
     */
    fun nearest(embedding: FloatArray): Pair<Prototype, Float>? {
        val scores = scores(embedding)
        val best = scores.indices.maxByOrNull { scores[it] } ?: return null
        return if (scores[best] >= THRESHOLD_SCORE) classes[best] to scores[best] else null
    }

    /**
     * Checks that the prototypes are for this bundle's model, whose embeddings they are compared with, and that its
     * classes have other names.
     *
     * @throws PrototypeException they are for another model, or have a class of its
     */
    fun requireModel(bundle: Bundle) {
        val manifest = bundle.manifest
        val own = bundle.modelSha256
        if (modelSha256 != own || dim != manifest.embeddingSize) {
            throw PrototypeException(
                "prototypes of $model (${modelSha256.take(SHOWN_HASH)}…); ${bundle.files} is ${manifest.model} " +
                    "(${own.take(SHOWN_HASH)}…); enroll the clips again with that bundle",
            )
        }
        for (name in labels) {
            val same = bundle.labels.firstOrNull { it.equals(name, ignoreCase = true) } ?: continue
            throw PrototypeException("${manifest.model} has a class \"$same\"; expected another name for the new one")
        }
    }

    companion object {
        private const val FORMAT_VERSION = 2
        private const val THRESHOLD_SCORE = 0.5
        private const val MOST_BACKGROUND = 256
        private const val FLOAT16_BYTES = 2L
        private const val MOST_BYTES = 16L shl 20 // a class of 2048 numbers has 45 kB
        private const val UNIT_TOLERANCE = 1e-3
        private const val SHOWN_HASH = 12
        private const val REMEDY = "enroll the clips again"
        private val NOT_IN_A_NAME =
            setOf(CharCategory.CONTROL, CharCategory.LINE_SEPARATOR, CharCategory.PARAGRAPH_SEPARATOR)

        /**
         * Reads a file that `panns-litert enroll` wrote. Every value is checked.
         *
         * @throws PrototypeException the file is missing, larger than 16 MiB, not JSON or of another format, or a
         *     vector is not a unit vector of length `dim`
         */
        fun read(file: File): Prototypes = try {
            parse(decodeUtf8(readRegular(file, MOST_BYTES), file.name))
        } catch (error: IOException) {
            throw PrototypeException("${error.message}; expected a file of `panns-litert enroll`; $REMEDY", error)
        } catch (error: PrototypeException) {
            throw PrototypeException("${file.name}: ${error.message}; $REMEDY", error)
        }

        internal fun parse(text: String): Prototypes = try {
            val json = StrictJson.parse(text, "prototypes")
            val version = json.long("format_version") // first, because another version may have other fields
            if (version != FORMAT_VERSION.toLong()) {
                throw PrototypeException("format_version $version; expected $FORMAT_VERSION")
            }
            json.whole {
                val classes = children("classes").map { it.whole(::one) }
                val dim = int("dim")
                child("background").whole { requireBackground(this, dim) }
                Prototypes(string("model"), string("model_sha256"), dim, classes)
            }.also { it.requireConsistent() }
        } catch (error: BundleException) { // of StrictJson
            throw PrototypeException(error.message.orEmpty(), error)
        }

        private fun one(json: StrictJson): Prototype {
            val name = json.string("name")
            if (name.isBlank() || name.any { it.category in NOT_IN_A_NAME }) {
                val shown = name.filterNot { it.category in NOT_IN_A_NAME }
                throw PrototypeException("class \"$shown\"; expected a name of one line")
            }
            val (count, threshold, cosine) = Triple(json.int("count"), json.number("threshold"), json.number("cosine"))
            if (count < 1 || threshold !in -1.0..1.0 || cosine !in -1.0..1.0) {
                throw PrototypeException(
                    "count $count, threshold $threshold, cosine $cosine; expected ≥ 1, and -1 … 1",
                )
            }
            val scale = json.number("scale")
            if (!(scale > 0.0)) throw PrototypeException("scale $scale of class \"$name\"; expected a number > 0")
            json.strings("sha256")
            val mean = json.numbers("mean")
            if (!(abs(sqrt(mean.sumOf { it * it }) - 1.0) <= UNIT_TOLERANCE)) {
                throw PrototypeException("mean of class \"$name\"; expected a vector of length 1")
            }
            return Prototype(name, count, threshold, scale, FloatArray(mean.size) { mean[it].toFloat() })
        }

        /** Checks the background, float16 numbers in base64, as far as its length. Only `enroll` needs its values. */
        private fun requireBackground(json: StrictJson, dim: Int) {
            json.strings("sha256")
            val (windows, vectors) = json.int("windows") to json.string("vectors")
            val characters = (FLOAT16_BYTES * dim * windows + 2) / 3 * 4
            if (windows !in 0..MOST_BACKGROUND || vectors.length.toLong() != characters) {
                throw PrototypeException(
                    "background: $windows windows in ${vectors.length} characters; expected 0 … $MOST_BACKGROUND, " +
                        "$characters characters",
                )
            }
        }

        /**
         * The settings of events with the thresholds of [enrolled] classes, 0.5 and 0.25, for each class of which the
         * settings have no `on`.
         */
        internal fun withEnrolled(settings: EventSettings, enrolled: List<String>): EventSettings {
            val own = enrolled.mapNotNull { name ->
                val given = settings.classes[name] ?: EventSettings.Own()
                if (given.on != null) return@mapNotNull null
                name to given.copy(on = THRESHOLD_SCORE, off = given.off ?: (THRESHOLD_SCORE / 2))
            }
            return settings.copy(classes = settings.classes + own)
        }

        /** Scores of [classes] classes in rows, with these [own] scores behind each row. */
        internal fun joined(scores: FloatArray, classes: Int, own: FloatArray): FloatArray {
            val width = classes + own.size
            return FloatArray(scores.size / classes * width) {
                val at = it % width
                if (at < classes) scores[it / width * classes + at] else own[at - classes]
            }
        }

        private fun Prototypes.requireConsistent() {
            for (one in classes) {
                if (one.mean.size != dim) {
                    throw PrototypeException("class \"${one.name}\" has ${one.mean.size} numbers; expected $dim")
                }
            }
            if (labels.distinct().size != classes.size) {
                throw PrototypeException("two classes have the same name; expected each name once")
            }
        }
    }
}
