package io.github.pannslitert.tagging

import io.github.pannslitert.BundleException
import io.github.pannslitert.PrototypeException
import io.github.pannslitert.StrictJson
import io.github.pannslitert.bundle.Bundle
import io.github.pannslitert.decodeUtf8
import io.github.pannslitert.readRegular
import java.io.File
import java.io.IOException
import kotlin.math.abs
import kotlin.math.sqrt

/**
 * A class of the user's own.
 *
 * @property count number of clips that the mean was taken over, ≥ 1
 * @property threshold least cosine of a clip that counts as this class, -1 … 1
 * @property mean a unit vector
 */
class Prototype internal constructor(val name: String, val count: Int, val threshold: Double, val mean: FloatArray)

/**
 * Classes of the user's own: mean directions of embeddings, which `panns-litert enroll` writes. Use it with
 * [Tagging.embedding] or [LongTagging.embedding].
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
     * The cosines of an embedding with every prototype, -1 … 1.
     *
     * @throws PrototypeException there is no class, or the embedding has another length, is zero or not finite
     */
    fun scores(embedding: FloatArray): FloatArray {
        if (classes.isEmpty()) throw PrototypeException("no class yet; expected at least one: panns-litert enroll")
        if (embedding.size != dim) throw PrototypeException("an embedding of ${embedding.size} numbers; expected $dim")
        val norm = sqrt(embedding.sumOf { it.toDouble() * it })
        if (!(norm > 0.0 && norm.isFinite())) {
            throw PrototypeException("an embedding is zero or not finite; expected a clip in which something is heard")
        }
        return FloatArray(classes.size) { k ->
            val mean = classes[k].mean
            (mean.indices.sumOf { mean[it].toDouble() * embedding[it] } / norm).coerceIn(-1.0, 1.0).toFloat()
        }
    }

    /**
     * The class with the highest cosine, and that cosine; null if no class reaches its threshold. Only classes that do
     * count.
     *
     * @throws PrototypeException as [scores]
     */
    fun nearest(embedding: FloatArray): Pair<Prototype, Float>? {
        val scores = scores(embedding)
        val best = classes.indices.filter { scores[it] >= classes[it].threshold }.maxByOrNull { scores[it] }
        return best?.let { classes[it] to scores[it] }
    }

    /**
     * Checks that the prototypes are for this bundle's model: embeddings of another .tflite cannot be compared.
     *
     * @throws PrototypeException they are for another model
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
    }

    companion object {
        private const val FORMAT_VERSION = 1
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
                Prototypes(string("model"), string("model_sha256"), int("dim"), classes)
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
            val (count, threshold) = json.int("count") to json.number("threshold")
            if (count < 1 || threshold !in -1.0..1.0) {
                throw PrototypeException("count $count, threshold $threshold; expected ≥ 1, and -1 … 1")
            }
            val mean = json.numbers("mean")
            if (!(abs(sqrt(mean.sumOf { it * it }) - 1.0) <= UNIT_TOLERANCE)) {
                throw PrototypeException("mean of class \"$name\"; expected a vector of length 1")
            }
            return Prototype(name, count, threshold, FloatArray(mean.size) { mean[it].toFloat() })
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
