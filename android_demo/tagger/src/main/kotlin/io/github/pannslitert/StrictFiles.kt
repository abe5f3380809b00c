package io.github.pannslitert

import java.io.File
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.charset.CharacterCodingException

/** Size of the largest JSON file that is read. A manifest has about 10 kB. */
internal const val MOST_JSON_BYTES = 4L shl 20

/**
 * Reads a regular file of at most [most] bytes. A folder, a FIFO or a device is refused, none of them can block.
 *
 * @throws IOException the file is missing, not regular or larger, or cannot be read
 */
internal fun readRegular(file: File, most: Long): ByteArray {
    if (!file.isFile) throw IOException("no ${file.name}; expected a regular file")
    if (file.length() > most) throw IOException("${file.name} has ${file.length()} bytes; expected at most $most")
    return file.inputStream().use { stream ->
        val data = stream.readNBytes(most.toInt() + 1)
        if (data.size > most) throw IOException("${file.name} grew beyond $most bytes while it was read")
        data
    }
}

/**
 * Converts UTF-8 to text, and drops a byte order mark at its start.
 *
 * @param name name of the text in messages
 * @throws IOException the bytes are not UTF-8
 */
internal fun decodeUtf8(bytes: ByteArray, name: String): String = try {
    Charsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes)).toString().removePrefix("\uFEFF")
} catch (error: CharacterCodingException) {
    throw IOException("$name is not UTF-8; expected text", error)
}

/** Reads a JSON file as text, see [readRegular] and [decodeUtf8]. */
internal fun readJsonText(file: File): String = decodeUtf8(readRegular(file, MOST_JSON_BYTES), file.name)
