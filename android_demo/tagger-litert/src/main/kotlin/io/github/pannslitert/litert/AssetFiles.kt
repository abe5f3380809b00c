package io.github.pannslitert.litert

import android.content.Context
import android.content.res.AssetFileDescriptor
import android.content.res.AssetManager
import io.github.pannslitert.EngineException
import io.github.pannslitert.bundle.BundleFiles
import java.io.FileInputStream
import java.io.FileNotFoundException
import java.io.IOException
import java.io.InputStream
import java.nio.ByteBuffer
import java.nio.channels.FileChannel

/**
 * A bundle in the assets of an app. All of it is read there, without a copy.
 *
 * @param folder its folder in the assets, for example "mn04"
 */
class AssetFiles(context: Context, private val folder: String) : BundleFiles {
    internal val assets: AssetManager = context.assets

    override fun open(name: String): InputStream = try {
        assets.open(path(name))
    } catch (error: FileNotFoundException) { // its message is only the path
        throw IOException("no $name", error)
    }

    override fun map(name: String): ByteBuffer = stored(name).use { file ->
        FileInputStream(file.fileDescriptor).channel.map(FileChannel.MapMode.READ_ONLY, file.startOffset, file.length)
    }

    override fun toString(): String = "assets/$folder"

    /** The name of a file in the assets. */
    internal fun path(name: String): String = "$folder/$name"

    /**
     * Opens a file that is not compressed in the APK, so that it can be mapped into memory.
     *
     * @throws EngineException it is compressed
     */
    internal fun stored(name: String): AssetFileDescriptor = try {
        assets.openFd(path(name))
    } catch (error: FileNotFoundException) {
        throw EngineException(
            "$this: $name is missing or compressed in the APK; expected in build.gradle.kts: " +
                "android { androidResources { noCompress += \"tflite\" } }",
        )
    }
}
