package io.github.pannslitert.demo

import android.content.Context
import io.github.pannslitert.bundle.BundleFiles
import io.github.pannslitert.bundle.BundleFolder
import io.github.pannslitert.litert.AssetFiles
import java.io.File

/** All bundles on the device: those in the assets of the app, and those that install_bundle.sh copied. */
class DeviceBundles(private val context: Context) {
    private val folder = File(context.filesDir, BUNDLES)

    /** The bundles, the installed ones first, each sorted by name. */
    fun list(): List<BundleChoice> {
        val installed = folder.listFiles().orEmpty().filter(File::isDirectory).map(File::getName)
        val assets = context.assets.list(BUNDLES).orEmpty()
        return installed.sorted().map { BundleChoice(it, isInstalled = true) } +
            assets.sorted().map { BundleChoice(it, isInstalled = false) }
    }

    /** Where the files of a bundle are. */
    fun files(bundle: BundleChoice): BundleFiles =
        if (bundle.isInstalled) BundleFolder(File(folder, bundle.name)) else AssetFiles(context, "$BUNDLES/${bundle.name}")

    private companion object {
        const val BUNDLES = "bundles"
    }
}
