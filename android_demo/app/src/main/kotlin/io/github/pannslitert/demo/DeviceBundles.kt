package io.github.pannslitert.demo

import android.content.Context
import java.io.File

/**
 * All bundles on the device, each with its self-test: those in the assets of the app, and those that install_bundle.sh
 * copied.
 */
class DeviceBundles(private val context: Context) {
    private val folder = File(context.filesDir, "bundles")

    /**
     * Returns the folders of the bundles, sorted by name. Before that, it copies the assets to files, once per
     * installation of the app, because `Bundle` opens only files.
     */
    fun list(): List<File> {
        val assets = File(context.noBackupFilesDir, "bundles")
        val installed = context.packageManager.getPackageInfo(context.packageName, 0).lastUpdateTime.toString()
        val marker = File(assets, "installed")
        if (!marker.isFile || marker.readText() != installed) {
            assets.deleteRecursively()
            for (name in context.assets.list(ASSETS).orEmpty()) copy("$ASSETS/$name", File(assets, name))
            assets.mkdirs()
            marker.writeText(installed)
        }
        val found = listOf(assets, folder).flatMap { it.listFiles().orEmpty().toList() }
        return found.filter(File::isDirectory).sortedBy(File::getName)
    }

    private fun copy(asset: String, target: File) {
        target.mkdirs()
        for (name in context.assets.list(asset).orEmpty()) {
            context.assets.open("$asset/$name").use { from -> File(target, name).outputStream().use(from::copyTo) }
        }
    }

    private companion object {
        const val ASSETS = "bundles"
    }
}
