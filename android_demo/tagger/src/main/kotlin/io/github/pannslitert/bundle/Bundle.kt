package io.github.pannslitert.bundle

import io.github.pannslitert.BundleException
import io.github.pannslitert.MOST_JSON_BYTES
import io.github.pannslitert.decodeUtf8
import io.github.pannslitert.frontend.melBasis
import io.github.pannslitert.readAtMost
import java.io.File
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.security.MessageDigest
import kotlin.math.abs

/**
 * An opened bundle, which `panns-litert convert` wrote. Every file in it was checked but the model card, which is
 * documentation and may be edited or removed.
 *
 * @property files where its files are
 * @property labels class names, in the order of the output `probs`
 * @property melBasis row-major, shape [nMels][bins]
 */
class Bundle private constructor(
    val files: BundleFiles,
    val manifest: Manifest,
    val labels: List<String>,
    val melBasis: FloatArray,
) {
    /** The SHA-256 of the model's file, which tells one model from another. */
    val modelSha256: String get() = manifest.files.getValue(manifest.file("model")).sha256

    companion object {
        internal const val MANIFEST = "manifest.json"
        private const val REMEDY = "convert it again, or copy the whole folder again"
        private const val BLOCK_BYTES = 1 shl 20
        private const val BASIS_TOLERANCE = 1e-6f // float32 rounding of weights up to 1, in two languages

        /** Opens the bundle in a folder, see the other function. */
        fun open(folder: File): Bundle = open(BundleFolder(folder))

        /**
         * Opens a bundle. Reads every file once, to check its hash.
         *
         * @throws BundleException a file is missing, altered or invalid; the message names the file, what was expected
         *     and the remedy
         */
        fun open(files: BundleFiles): Bundle {
            val text = try {
                decodeUtf8(files.open(MANIFEST).readAtMost(MOST_JSON_BYTES, MANIFEST), MANIFEST)
            } catch (error: IOException) {
                throw BundleException(
                    "$files: ${error.message}; expected the $MANIFEST of a bundle that `panns-litert convert` wrote",
                    error,
                )
            }
            try {
                val manifest = Manifest.parse(text)
                for ((name, record) in manifest.files) {
                    if (record.role != "model_card") requireUnaltered(files, name, record)
                }
                return Bundle(files, manifest, readLabels(files, manifest), readMelBasis(files, manifest))
            } catch (error: BundleException) {
                throw BundleException("$files: ${error.message}", error)
            } catch (error: IOException) {
                throw BundleException("$files: ${error.message}; $REMEDY", error)
            }
        }

        private fun requireUnaltered(files: BundleFiles, name: String, record: FileRecord) {
            val digest = MessageDigest.getInstance("SHA-256")
            val block = ByteArray(BLOCK_BYTES)
            var bytes = 0L
            files.open(name).use { stream ->
                while (true) {
                    val count = stream.read(block)
                    if (count < 0) break
                    digest.update(block, 0, count)
                    bytes += count
                }
            }
            if (bytes != record.bytes) {
                throw BundleException("$name has $bytes bytes; the manifest says ${record.bytes}; $REMEDY")
            }
            if (digest.digest().joinToString("") { "%02x".format(it) } != record.sha256) {
                throw BundleException("$name was altered: its sha256 is not the manifest's; $REMEDY")
            }
        }

        private fun readLabels(files: BundleFiles, manifest: Manifest): List<String> {
            val name = manifest.file("labels")
            val bytes = files.open(name).readAtMost(manifest.files.getValue(name).bytes, name)
            val labels = classNames(decodeUtf8(bytes, name), name)
            if (labels.size != manifest.classes) {
                throw BundleException(
                    "$name has ${labels.size} lines; expected ${manifest.classes} different names, one a line",
                )
            }
            return labels
        }

        private fun readMelBasis(files: BundleFiles, manifest: Manifest): FloatArray {
            val name = manifest.file("mel_basis")
            val expected = manifest.frontEnd.nMels.toLong() * manifest.frontEnd.bins
            val bytes = manifest.files.getValue(name).bytes
            if (bytes != 4L * expected) {
                throw BundleException("$name has $bytes bytes; the front end needs ${4 * expected}; $REMEDY")
            }
            val values = ByteBuffer.wrap(files.open(name).readAtMost(bytes, name)).order(ByteOrder.LITTLE_ENDIAN)
            val basis = FloatArray(expected.toInt()).also(values.asFloatBuffer()::get)
            val own = melBasis(manifest.frontEnd)
            if (!basis.indices.all { abs(basis[it] - own[it]) <= BASIS_TOLERANCE }) { // NaN is not within it either
                throw BundleException("$name is not the mel basis of the manifest's front end; $REMEDY")
            }
            return basis
        }
    }
}
