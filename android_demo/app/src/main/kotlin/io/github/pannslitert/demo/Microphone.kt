package io.github.pannslitert.demo

import android.annotation.SuppressLint
import android.media.AudioFormat
import android.media.AudioRecord
import android.media.MediaRecorder

/**
 * The microphone, read by a thread of its own that also opens and releases it.
 *
 * @param onSamples receives mono chunks in [-1, 1] and their rate, Hz; the array is the receiver's
 * @param onFailure receives the string resource that says why recording cannot begin or go on; nothing comes after it
 */
class Microphone(private val onSamples: (FloatArray, Int) -> Unit, private val onFailure: (Int) -> Unit) {
    @Volatile private var wanted = true
    private val thread = Thread(::run, "microphone").apply { start() }

    /** Returns once the microphone is released; not to be called from the callbacks. */
    fun close() {
        wanted = false
        thread.join()
    }

    private fun run() {
        val recorder = RATES.firstNotNullOfOrNull(::open) ?: return onFailure(R.string.microphone_missing)
        val failure = try {
            read(recorder)
        } catch (_: IllegalStateException) { // startRecording, where another app has it
            R.string.microphone_busy
        } finally {
            recorder.release()
        }
        if (failure != null) onFailure(failure)
    }

    /** Reads until it is closed, or returns why it cannot. */
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

    @SuppressLint("MissingPermission") // the activity asks for it first; without it the recorder is not initialized
    private fun open(rate: Int): AudioRecord? {
        val least = AudioRecord.getMinBufferSize(rate, AudioFormat.CHANNEL_IN_MONO, AudioFormat.ENCODING_PCM_FLOAT)
        if (least <= 0) return null
        // This source is the one without gain control that every device has. One second: a late thread loses nothing.
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
        val RATES = listOf(48000, 44100) // what phones record at; what Android promises
        const val CHUNKS_PER_SECOND = 10
    }
}
