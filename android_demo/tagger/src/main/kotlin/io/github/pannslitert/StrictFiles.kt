package io.github.pannslitert

import java.io.File
import java.io.IOException
import java.io.InputStream
import java.nio.ByteBuffer
import java.nio.charset.CharacterCodingException

/** Size of the largest JSON file that is read. A manifest has about 10 kB. */
internal const val MOST_JSON_BYTES = 4L shl 20

/**
 * Reads a stream of at most [most] bytes, and closes it.
 *
 * @param name name of the file in messages
 * @throws IOException the stream is longer, or cannot be read
 */
internal fun InputStream.readAtMost(most: Long, name: String): ByteArray = use { stream ->
    // Not readNBytes(Int), which Android has only since level 33.
    val data = ByteArray(most.toInt() + 1)
    var size = 0
    while (size < data.size) {
        val count = stream.read(data, size, data.size - size)
        if (count < 0) break
        size += count
    }
    if (size > most) throw IOException("$name has more than $most bytes; expected at most that")
    data.copyOf(size)
}

/**
 * Reads a regular file of at most [most] bytes. A folder, a FIFO or a device is refused: none of them can block.
 *
 * @throws IOException the file is missing, not regular or larger, or cannot be read
 */
internal fun readRegular(file: File, most: Long): ByteArray {
    if (!file.isFile) throw IOException("no ${file.name}; expected a regular file")
    return file.inputStream().readAtMost(most, file.name)
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
