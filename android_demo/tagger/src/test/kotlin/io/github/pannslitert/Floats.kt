package io.github.pannslitert

import com.google.gson.JsonArray
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder

/** Reads a file of little-endian float32. */
internal fun readFloats(file: File): FloatArray {
    val buffer = ByteBuffer.wrap(file.readBytes()).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer()
    return FloatArray(buffer.remaining()).also(buffer::get)
}

/** Writes a file of little-endian float32. */
internal fun writeFloats(file: File, values: FloatArray) {
    val buffer = ByteBuffer.allocate(4 * values.size).order(ByteOrder.LITTLE_ENDIAN)
    buffer.asFloatBuffer().put(values)
    file.writeBytes(buffer.array())
}

/** The numbers of a JSON array. */
internal fun floatArray(values: JsonArray): FloatArray = FloatArray(values.size()) { values[it].asFloat }
