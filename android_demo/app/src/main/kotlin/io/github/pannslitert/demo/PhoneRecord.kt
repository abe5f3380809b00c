package io.github.pannslitert.demo

import android.app.ActivityManager
import android.content.Context
import android.os.Build
import io.github.pannslitert.EngineException
import io.github.pannslitert.RecordException
import io.github.pannslitert.bundle.Bundle
import io.github.pannslitert.litert.LiteRtEngine
import io.github.pannslitert.measure.Device
import io.github.pannslitert.measure.DeviceRecord
import io.github.pannslitert.measure.Measurement
import io.github.pannslitert.measure.Run
import io.github.pannslitert.measure.SelfTest
import io.github.pannslitert.tagging.Engine
import java.io.File
import java.util.concurrent.CancellationException

/** Measures bundles on this phone and writes a device record, which the user can share. */
class PhoneRecord(private val context: Context) {
    /**
     * The result of a measurement.
     *
     * @property file the record of the phone, with earlier measurements of other bundles
     * @property runs the new measurements
     * @property failures messages for the engines that could not be measured
     */
    class Measured(val file: File, val runs: List<Run>, val failures: List<String>)

    /**
     * Measures a bundle on the CPU, with one thread and with the number of threads that the app uses, and on the GPU.
     *
     * @param gpu whether to measure the GPU; only safe if it passed its self-test, because a driver that crashes ends
     *     the app
     * @param isCancelled asked before every run of an engine
     * @param onSetting called before each engine
     * @throws EngineException no engine could be measured
     * @throws CancellationException it was cancelled; nothing is written
     */
    fun measure(
        bundle: Bundle,
        selfTest: SelfTest,
        gpu: Boolean,
        isCancelled: () -> Boolean,
        onSetting: (Measurement.Setting) -> Unit,
    ): Measured {
        val measurement = Measurement(bundle, selfTest, mapOf("litert" to LiteRtEngine.VERSION))
        val threads = listOf(1, LiteRtEngine.mostThreads()).distinct()
        val engines: MutableList<Pair<Measurement.Setting, () -> Engine>> = threads.map { count ->
            Measurement.Setting.cpu(count) to { LiteRtEngine.cpu(bundle, fallback = null, threads = count) }
        }.toMutableList()
        if (gpu) { // without the cache, which would hide the time of the compilation in the first inference
            engines += Measurement.Setting.gpu("GPU of ${chip()}") to { LiteRtEngine.gpu(bundle, cache = null) }
        }
        val runs = mutableListOf<Run>()
        val failures = mutableListOf<String>()
        for ((setting, open) in engines) {
            onSetting(setting)
            try {
                runs += measurement.run(setting, { Cancellable(open(), isCancelled) })
            } catch (error: CancellationException) {
                throw error
            } catch (error: Throwable) { // an Error, too: the other engines are measured
                failures += "$setting: ${error.message ?: error.javaClass.simpleName}"
            }
        }
        if (runs.isEmpty()) throw EngineException(failures.joinToString("; "))
        return Measured(write(runs), runs, failures)
    }

    /** An engine that stops at its next run. */
    private class Cancellable(private val engine: Engine, private val isCancelled: () -> Boolean) : Engine by engine {
        override fun run(input: FloatArray): Map<String, FloatArray> {
            if (isCancelled()) throw CancellationException("cancelled")
            return engine.run(input)
        }
    }

    private fun write(runs: List<Run>): File {
        val device = device()
        val file = File(context.cacheDir, "$FOLDER/${device.slug}.json")
        val before = try {
            if (file.exists()) DeviceRecord.read(file).runs else listOf()
        } catch (_: RecordException) {
            listOf() // the file in the cache is damaged: keep only the new measurements
        }
        file.parentFile?.mkdirs()
        val unfinished = File(file.path + ".new")
        unfinished.writeText(DeviceRecord(device, before).with(runs).toJson())
        unfinished.renameTo(file)
        return file
    }

    private fun device(): Device {
        val memory = ActivityManager.MemoryInfo()
        context.getSystemService(ActivityManager::class.java).getMemoryInfo(memory)
        return Device(
            name = "${Build.MANUFACTURER} ${Build.MODEL}",
            os = "Android ${Build.VERSION.RELEASE} (API ${Build.VERSION.SDK_INT})",
            cpu = chip(),
            cores = Runtime.getRuntime().availableProcessors(),
            memoryBytes = memory.totalMem,
        )
    }

    private fun chip(): String = if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.S) {
        "${Build.SOC_MANUFACTURER} ${Build.SOC_MODEL}"
    } else {
        Build.HARDWARE
    }

    private companion object {
        /** Folder in the cache. res/xml/shared.xml allows sharing from it, and from no other folder. */
        const val FOLDER = "records"
    }
}
