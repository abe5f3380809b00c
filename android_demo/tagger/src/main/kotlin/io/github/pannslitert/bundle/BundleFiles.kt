package io.github.pannslitert.bundle

import java.io.File
import java.io.IOException
import java.io.InputStream
import java.nio.ByteBuffer
import java.nio.channels.FileChannel
import java.nio.file.StandardOpenOption

/** The place of a bundle: a folder, or for example the assets of an app. Its `toString()` is the name in messages. */
interface BundleFiles {
    /**
     * Opens a file for reading. The caller closes it.
     *
     * @throws IOException there is no such regular file
     */
    fun open(name: String): InputStream

    /**
     * Maps a file into memory, read-only.
     *
     * @throws IOException there is no such regular file, or it cannot be mapped
     */
    fun map(name: String): ByteBuffer
}

/** A bundle in a folder. */
class BundleFolder(val folder: File) : BundleFiles {
    override fun open(name: String): InputStream = regular(name).inputStream()

    override fun map(name: String): ByteBuffer =
        FileChannel.open(regular(name).toPath(), StandardOpenOption.READ).use {
            it.map(FileChannel.MapMode.READ_ONLY, 0, it.size())
        }

    override fun toString(): String = folder.path

    /** A folder, a FIFO or a device is refused: none of them can block. */
    private fun regular(name: String): File {
        val file = File(folder, name)
        if (!file.isFile) throw IOException("no $name; expected a regular file")
        return file
    }
}
