package io.github.pannslitert.demo

import android.annotation.SuppressLint
import android.media.AudioFormat
import android.media.AudioRecord
import android.media.MediaRecorder

/**
 * Records from the microphone on its own thread, which also opens and releases it.
 *
 * @param onSamples receives mono chunks within [-1, 1] and their sample rate in Hz; it may keep the array
 * @param onFailure receives the ID of the string resource that says why recording cannot start or continue; no call
 *     follows
 */
class Microphone(private val onSamples: (FloatArray, Int) -> Unit, private val onFailure: (Int) -> Unit) {
    @Volatile private var wanted = true
    private val thread = Thread(::run, "microphone").apply { start() }

    /** Stops recording. Returns after the microphone is released. Must not be called from the callbacks. */
    fun close() {
        wanted = false
        thread.join()
    }

    private fun run() {
        val recorder = RATES.firstNotNullOfOrNull(::open) ?: return onFailure(R.string.microphone_missing)
        val failure = try {
            read(recorder)
        } catch (_: IllegalStateException) { // from startRecording, if another app uses the microphone
            R.string.microphone_busy
        } finally {
            recorder.release()
        }
        if (failure != null) onFailure(failure)
    }

    /**
     * Records until [close] is called, and then returns null; or returns the string resource of the reason why it
     * cannot go on.
     */
    private fun read(recorder: AudioRecord): Int? {
        recorder.startRecording()
        if (recorder.recordingState != AudioRecord.RECORDSTATE_RECORDING) return R.string.microphone_busy
        val rate = recorder.sampleRate
        val chunk = FloatArray(rate / CHUNKS_PER_SECOND)
        while (wanted) {
            val count = recorder.read(chunk, 0, chunk.size, AudioRecord.READ_BLOCKING)
            if (count < 0) return R.string.microphone_lost
            onSamples(chunk.copyOf(count), rate)
        }
        recorder.stop()
        return null
    }

    @SuppressLint("MissingPermission") // the activity asks for it; without it, the recorder is not initialized
    private fun open(rate: Int): AudioRecord? {
        val least = AudioRecord.getMinBufferSize(rate, AudioFormat.CHANNEL_IN_MONO, AudioFormat.ENCODING_PCM_FLOAT)
        if (least <= 0) return null
        // The only source without gain control that all devices have. The buffer holds one second, so that a delayed
        // thread loses no samples.
        val recorder = AudioRecord(
            MediaRecorder.AudioSource.VOICE_RECOGNITION,
            rate,
            AudioFormat.CHANNEL_IN_MONO,
            AudioFormat.ENCODING_PCM_FLOAT,
            maxOf(least, rate * Float.SIZE_BYTES),
        )
        if (recorder.state == AudioRecord.STATE_INITIALIZED) return recorder
        recorder.release()
        return null
    }

    private companion object {
        val RATES = listOf(48000, 44100) // the usual rate of phones; the rate that Android guarantees
        const val CHUNKS_PER_SECOND = 10
    }
}
