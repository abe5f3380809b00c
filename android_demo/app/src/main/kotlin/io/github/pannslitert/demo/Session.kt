package io.github.pannslitert.demo

import android.content.Context
import android.net.Uri
import android.os.Handler
import android.os.Looper
import io.github.pannslitert.bundle.Bundle
import io.github.pannslitert.litert.LiteRtEngine
import io.github.pannslitert.measure.EngineChoice
import io.github.pannslitert.measure.Measurement
import io.github.pannslitert.measure.SelfTest
import io.github.pannslitert.tagging.Engine
import io.github.pannslitert.tagging.Tagger
import io.github.pannslitert.tagging.Tagging
import java.io.File
import java.io.IOException
import java.util.concurrent.Executors

/**
 * The open bundle, its engine and the current results. It lives as long as the process, independent of the screen.
 *
 * Call its functions on the main thread. One other thread does all the work and owns the model.
 */
class Session(private val context: Context) {
    private class Opened(val bundle: Bundle, val engine: Engine, val modelMs: Double) {
        val tagger = Tagger(bundle, engine, top = TOP)
    }

    private val main = Handler(Looper.getMainLooper())
    private val model = Executors.newSingleThreadExecutor { Thread(it, "model") }

    /** Called on the main thread: with the current state when it is set, then with every new state. */
    var onState: ((State) -> Unit)? = null
        set(value) {
            field = value
            value?.invoke(shown)
        }
    private var shown = State()

    // The following fields belong to the model thread.
    private var state = State()
    private var opened: Opened? = null
    private var live: LiveTagging? = null

    /** Looks for bundles, and opens one if none is open. */
    fun start() = onModel {
        val bundles = DeviceBundles(context).list()
        val chosen = bundles.find { it == state.chosen } ?: bundles.firstOrNull()
        show { copy(bundles = bundles, chosen = chosen) }
        if (chosen == null) {
            fail(context.getString(R.string.no_bundle))
        } else if (opened?.bundle?.folder != chosen) {
            open(chosen)
        }
    }

    /** Opens a bundle and closes the one that was open. */
    fun choose(folder: File) = onModel { if (folder != state.chosen) open(folder) }

    /** Starts tagging the microphone. */
    fun listen() = onModel {
        val ready = opened
        if (ready != null && live == null) {
            show { copy(message = "", isError = false, listening = true, tagging = null, timeline = Timeline()) }
            live = LiveTagging(ready.tagger, ready.modelMs, listener) { sender, task ->
                onModel { if (live === sender) task() }
            }
        }
    }

    /** Releases the microphone. */
    fun stopListening() = onModel { stopLive() }

    /** Tags the start of an audio file, up to the length of one clip. */
    fun tag(file: Uri) = onModel {
        val ready = opened
        if (ready != null) {
            stopLive()
            val reading = context.getString(R.string.reading_file)
            show { copy(message = reading, isError = false, tagging = null, timeline = Timeline()) }
            val manifest = ready.bundle.manifest
            val samples = decodeAudio(context, file, manifest.frontEnd.sampleRate, manifest.clipSamples)
            val tagging = ready.tagger.tag(samples)
            show { copy(message = context.getString(R.string.heard_of_file, tagging.seconds), tagging = tagging) }
        }
    }

    /**
     * Measures the open bundle on all engines that passed their self-test. After that, the state has the record to
     * share.
     */
    fun measure() = onModel {
        val ready = opened
        if (ready != null) {
            val bundle = ready.bundle
            val gpu = state.attempts.any { it.name == "GPU" && it.passed }
            closeModel() // frees its memory and its accelerator for the measurement
            show { copy(measuring = true, record = null, timeline = Timeline()) }
            val measured = try {
                PhoneRecord(context).measure(bundle, SelfTest.open(bundle.folder, bundle), gpu) { setting ->
                    show { copy(message = context.getString(R.string.measuring, "$setting"), isError = false) }
                }
            } finally {
                show { copy(measuring = false) }
                open(bundle.folder)
            }
            val lines = measured.runs.map { run ->
                val engine = run.threads?.let { Measurement.Setting.cpu(it) } ?: run.adapter
                context.getString(R.string.measured, "$engine", run.ms.median, run.firstMs)
            }
            val message = (lines + measured.failures).joinToString("\n")
            show { copy(message = message, isError = measured.failures.isNotEmpty(), record = measured.file) }
        }
    }

    /** Shows an error message of the screen. */
    fun reject(message: String) = onModel { fail(message) }

    /** Releases the microphone, then the model. [start] opens the model again. */
    fun close() = onModel { closeModel() }

    private fun open(folder: File) {
        closeModel()
        show { State(bundles = bundles, chosen = folder, message = context.getString(R.string.testing)) }
        val bundle = Bundle.open(folder)
        val selfTest = SelfTest.open(folder, bundle)
        val choice = prove(bundle, selfTest)
        show { copy(attempts = choice.attempts) }
        val engine = choice.engine ?: throw IOException(context.getString(R.string.no_engine))
        opened = Opened(bundle, engine, choice.result?.run { frontEndMs + modelMs } ?: 0.0)
        show { copy(message = "", ready = true) }
    }

    private fun prove(bundle: Bundle, selfTest: SelfTest): EngineChoice {
        // If a driver crashes, the process ends and this file remains. The next time, the CPU is used.
        val model = bundle.manifest.files.getValue(bundle.manifest.file("model"))
        val attempt = File(context.noBackupFilesDir, "gpu-attempt-${model.sha256}")
        val crashed = attempt.exists()
        return EngineChoice.make(
            bundle,
            selfTest,
            gpu = { fallback ->
                if (crashed) throw IOException(context.getString(R.string.gpu_crashed))
                attempt.createNewFile()
                LiteRtEngine.gpu(bundle, LiteRtEngine.programCache(context), fallback)
            },
            cpu = { fallback -> LiteRtEngine.cpu(bundle, fallback) },
        ).also { if (!crashed) attempt.delete() }
    }

    private fun closeModel() {
        stopLive()
        show { copy(ready = false, tagging = null) }
        opened?.engine?.close()
        opened = null
    }

    private fun stopLive() {
        live?.close()
        live = null
        show { copy(listening = false) }
    }

    private val listener = object : LiveTagging.Listener {
        override fun onHeard(seconds: Double, silent: Double) {
            val clip = opened?.bundle?.manifest?.clipSeconds ?: return
            val message = when {
                silent >= LONG_SILENCE -> context.getString(R.string.microphone_silent)
                state.tagging == null -> context.getString(R.string.listening, seconds, clip)
                else -> ""
            }
            if (message != state.message) show { copy(message = message, isError = silent >= LONG_SILENCE) }
        }

        override fun onTagging(tagging: Tagging, timeline: Timeline) =
            show { copy(tagging = tagging, timeline = timeline) }

        override fun onFailure(reason: Int) {
            stopLive()
            fail(context.getString(reason))
        }
    }

    private fun onModel(task: () -> Unit) = model.execute {
        try {
            task()
        } catch (error: Exception) {
            stopLive()
            fail(error.message ?: error.javaClass.simpleName)
        }
    }

    private fun fail(message: String) = show { copy(message = message, isError = true) }

    private fun show(change: State.() -> State) {
        val next = state.change()
        state = next
        main.post {
            shown = next
            onState?.invoke(next)
        }
    }

    private companion object {
        const val TOP = 5
        const val LONG_SILENCE = 3.0
    }
}
