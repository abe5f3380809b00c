package io.github.pannslitert.bundle

import com.google.gson.JsonArray
import com.google.gson.JsonObject
import com.google.gson.JsonParser
import java.io.File
import java.security.MessageDigest
import kotlin.io.path.createTempDirectory

/** Makes a copy of the demo bundle, which a test may damage. It is deleted when the JVM ends. */
internal fun bundleCopy(change: (JsonObject) -> Unit = {}): File {
    val folder = createTempDirectory("bundle").toFile()
    File("assets/demo_bundle").copyRecursively(folder)
    editManifest(folder, change)
    Runtime.getRuntime().addShutdownHook(Thread { folder.deleteRecursively() })
    return folder
}

/** Applies [change] to the manifest in a folder. */
internal fun editManifest(folder: File, change: (JsonObject) -> Unit) {
    val file = File(folder, "manifest.json")
    val manifest = JsonParser.parseString(file.readText()).asJsonObject
    change(manifest)
    file.writeText(manifest.toString())
}

/** Replaces a file of a bundle and updates its size and hash in the manifest. */
internal fun replaceFile(folder: File, name: String, content: ByteArray) {
    File(folder, name).writeBytes(content)
    editManifest(folder) { manifest ->
        val record = manifest["files"].asJsonObject[name].asJsonObject
        record.addProperty("bytes", content.size)
        val digest = MessageDigest.getInstance("SHA-256").digest(content)
        record.addProperty("sha256", digest.joinToString("") { "%02x".format(it) })
    }
}

/** Changes a manifest to that of a graph that takes samples. */
internal fun takeSamples(manifest: JsonObject) {
    manifest.addProperty("graph", "waveform")
    manifest.addProperty("log_mel", "graph")
    val input = manifest["inputs"].asJsonArray[0].asJsonObject
    input.addProperty("name", "waveform")
    input.add("shape", JsonArray().apply { add(1); add(320000) })
}
