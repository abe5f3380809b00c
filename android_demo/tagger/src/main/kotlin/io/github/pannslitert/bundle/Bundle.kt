package io.github.pannslitert.bundle

import io.github.pannslitert.BundleException
import io.github.pannslitert.decodeUtf8
import io.github.pannslitert.frontend.melBasis
import io.github.pannslitert.readJsonText
import io.github.pannslitert.readRegular
import java.io.File
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.security.MessageDigest
import kotlin.math.abs

/**
 * An opened bundle: a folder that `panns-litert convert` wrote. Every file in it was checked but the model card, which is
 * documentation and may be edited or removed.
 *
 * @property labels class names, in the order of the output `probs`
 * @property melBasis row-major, shape [nMels][bins]
 */
class Bundle private constructor(
    val folder: File,
    val manifest: Manifest,
    val labels: List<String>,
    val melBasis: FloatArray,
) {
    /** The file with the given role: model, mel_basis, labels or model_card. */
    fun file(role: String): File = File(folder, manifest.file(role))

    companion object {
        internal const val MANIFEST = "manifest.json"
        private const val REMEDY = "convert it again, or copy the whole folder again"
        private const val BLOCK_BYTES = 1 shl 20
        private const val BASIS_TOLERANCE = 1e-6f // float32 rounding of weights up to 1, in two languages

        /**
         * Opens the bundle in a folder. Reads every file once, to check its hash.
         *
         * @throws BundleException a file is missing, altered or invalid; the message names the file, what was expected
         *     and the remedy
         */
        fun open(folder: File): Bundle {
            val manifestFile = File(folder, MANIFEST)
            if (!manifestFile.isFile) {
                throw BundleException("$folder has no $MANIFEST; expected a bundle that `panns-litert convert` wrote")
            }
            try {
                val manifest = Manifest.parse(readJsonText(manifestFile))
                for ((name, record) in manifest.files) {
                    if (record.role != "model_card") requireUnaltered(File(folder, name), record)
                }
                return Bundle(folder, manifest, readLabels(folder, manifest), readMelBasis(folder, manifest))
            } catch (error: BundleException) {
                throw BundleException("$folder: ${error.message}", error)
            } catch (error: IOException) {
                throw BundleException("$folder: ${error.message}; $REMEDY", error)
            }
        }

        private fun requireUnaltered(file: File, record: FileRecord) {
            if (!file.isFile) throw BundleException("no ${file.name}; $REMEDY")
            if (file.length() != record.bytes) {
                throw BundleException(
                    "${file.name} has ${file.length()} bytes; the manifest says ${record.bytes}; $REMEDY",
                )
            }
            if (sha256(file) != record.sha256) {
                throw BundleException("${file.name} was altered: its sha256 is not the manifest's; $REMEDY")
            }
        }

        private fun sha256(file: File): String {
            val digest = MessageDigest.getInstance("SHA-256")
            val block = ByteArray(BLOCK_BYTES)
            file.inputStream().use { stream ->
                while (true) {
                    val count = stream.read(block)
                    if (count < 0) break
                    digest.update(block, 0, count)
                }
            }
            return digest.digest().joinToString("") { "%02x".format(it) }
        }

        private fun readLabels(folder: File, manifest: Manifest): List<String> {
            val name = manifest.file("labels")
            val bytes = readRegular(File(folder, name), manifest.files.getValue(name).bytes)
            val labels = classNames(decodeUtf8(bytes, name), name)
            if (labels.size != manifest.classes) {
                throw BundleException(
                    "$name has ${labels.size} lines; expected ${manifest.classes} different names, one a line",
                )
            }
            return labels
        }

        private fun readMelBasis(folder: File, manifest: Manifest): FloatArray {
            val name = manifest.file("mel_basis")
            val expected = manifest.frontEnd.nMels.toLong() * manifest.frontEnd.bins
            val bytes = manifest.files.getValue(name).bytes
            if (bytes != 4L * expected) {
                throw BundleException("$name has $bytes bytes; the front end needs ${4 * expected}; $REMEDY")
            }
            val values = ByteBuffer.wrap(readRegular(File(folder, name), bytes)).order(ByteOrder.LITTLE_ENDIAN)
            val basis = FloatArray(expected.toInt()).also(values.asFloatBuffer()::get)
            val own = melBasis(manifest.frontEnd)
            if (!basis.indices.all { abs(basis[it] - own[it]) <= BASIS_TOLERANCE }) { // NaN is not within it either
                throw BundleException("$name is not the mel basis of the manifest's front end; $REMEDY")
            }
            return basis
        }
    }
}
