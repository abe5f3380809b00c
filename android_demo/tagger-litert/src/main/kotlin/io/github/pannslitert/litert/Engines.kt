package io.github.pannslitert.litert

import android.app.ActivityManager
import android.app.ApplicationExitInfo
import android.content.Context
import android.os.Build
import android.os.Process
import io.github.pannslitert.BundleException
import io.github.pannslitert.EngineException
import io.github.pannslitert.bundle.Bundle
import io.github.pannslitert.measure.CrashMark
import io.github.pannslitert.measure.EngineChoice
import io.github.pannslitert.measure.SelfTest
import io.github.pannslitert.tagging.Engine
import java.io.File

/**
 * Tests the engines of this phone with the self-test of a bundle, and opens the best one on the calling thread, which it
 * belongs to then.
 *
 * A driver that crashes ends the whole process. Then the next start does not try that accelerator again for this model,
 * until LiteRT or the system changes.
 *
 * @param npu whether to try the NPU first, if LiteRT supports the one in this phone
 * @throws BundleException the self-test is missing or altered
 */
fun chooseEngine(context: Context, bundle: Bundle, npu: Boolean): EngineChoice = synchronized(turn) {
    val marks = mutableListOf<CrashMark>()
    fun attempt(accelerator: String, open: () -> Engine): Engine {
        val system = "$accelerator ${LiteRtEngine.VERSION} ${Build.FINGERPRINT}".hashCode().toUInt().toString(16)
        val folder = File(context.noBackupFilesDir, "panns-litert")
        val mark = CrashMark(folder, "$accelerator-${bundle.modelSha256}-$system", Process.myPid())
        if (mark.isBarred { endOf(context, it) }) {
            throw EngineException(
                "the last attempt on the $accelerator ended the app; it is tried again after an update of LiteRT or of " +
                    "the system, or when the app's storage is cleared",
            )
        }
        mark.begin()
        marks += mark
        return open()
    }
    try {
        EngineChoice.make(
            bundle,
            SelfTest.open(bundle),
            gpu = { attempt("GPU") { LiteRtEngine.gpu(bundle, LiteRtEngine.programCache(context), it) } },
            cpu = { LiteRtEngine.cpu(bundle, it) },
            npu = { attempt("NPU") { LiteRtEngine.npu(context, bundle) } }.takeIf { npu && LiteRtEngine.hasNpu(context) },
        )
    } finally {
        marks.forEach(CrashMark::end)
    }
}

private const val SIGKILL = 9 // what Android itself ends processes with
private val turn = Any() // one choice at a time: two would use twice the memory, and mix up the marks

/** Why an earlier process of this app ended, as far as Android tells. */
private fun endOf(context: Context, process: Int): CrashMark.End {
    if (Build.VERSION.SDK_INT < Build.VERSION_CODES.R) return CrashMark.End.UNKNOWN
    val manager = context.getSystemService(ActivityManager::class.java)
    val record = manager.getHistoricalProcessExitReasons(context.packageName, process, 1).firstOrNull()
    return when (record?.reason) {
        null, ApplicationExitInfo.REASON_UNKNOWN -> CrashMark.End.UNKNOWN
        // ANR: a driver that never returns keeps the app from answering, if it was opened on the main thread's behalf.
        ApplicationExitInfo.REASON_CRASH_NATIVE, ApplicationExitInfo.REASON_ANR -> CrashMark.End.CRASH
        ApplicationExitInfo.REASON_SIGNALED ->
            if (record.status == SIGKILL) CrashMark.End.OTHER else CrashMark.End.CRASH
        else -> CrashMark.End.OTHER
    }
}
