package io.github.pannslitert.litert

import android.Manifest
import android.annotation.SuppressLint
import android.content.Context
import android.content.pm.PackageManager
import android.media.AudioDeviceInfo
import android.media.AudioFormat
import android.media.AudioManager
import android.media.AudioRecord
import android.media.AudioRecordingConfiguration
import android.media.MediaRecorder
import android.os.Build
import android.os.SystemClock
import io.github.pannslitert.MicrophoneException
import io.github.pannslitert.MicrophoneException.Problem
import io.github.pannslitert.audio.ReadClock
import java.util.concurrent.Executor

/**
 * The microphones of this device, for a choice. Without a choice, Android takes the one that was connected last.
 * Bluetooth microphones can be chosen from Android 12 on.
 */
fun microphones(context: Context): List<AudioDeviceInfo> =
    context.getSystemService(AudioManager::class.java).getDevices(AudioManager.GET_DEVICES_INPUTS).filter {
        when (it.type) {
            AudioDeviceInfo.TYPE_BUILTIN_MIC, AudioDeviceInfo.TYPE_WIRED_HEADSET, AudioDeviceInfo.TYPE_USB_DEVICE,
            AudioDeviceInfo.TYPE_USB_HEADSET, AudioDeviceInfo.TYPE_USB_ACCESSORY,
            -> true
            AudioDeviceInfo.TYPE_BLUETOOTH_SCO, AudioDeviceInfo.TYPE_BLE_HEADSET ->
                Build.VERSION.SDK_INT >= Build.VERSION_CODES.S
            else -> false
        }
    }

/**
 * Records from a microphone on its own thread, at the device's own rate and number of channels. A microphone that is
 * lost, for example unplugged, is opened again: the same one, or what Android has instead.
 *
 * @param device the microphone; null for Android's choice
 */
internal class Microphone(
    private val context: Context,
    private val device: AudioDeviceInfo?,
    private val listener: Listener,
) : AutoCloseable {
    /** Is called on the microphone's thread. */
    interface Listener {
        /** Samples within [-1, 1], channels in turn, and their rate in Hz. The array is not used again. */
        fun onSamples(samples: FloatArray, rate: Int, channels: Int)

        /** So much sound was lost before the next samples. */
        fun onLost(seconds: Double)

        /** A recorder was opened, on this device as far as Android tells. */
        fun onOpened(device: AudioDeviceInfo?)

        /** Whether Android gives zeros in place of the sound, for example because a call has the microphone. */
        fun onSilenced(silenced: Boolean)

        /** Recording cannot start or go on. No call follows. */
        fun onFailure(error: Throwable)
    }

    private val audio = context.getSystemService(AudioManager::class.java)
    private val thread = Thread(::run, "microphone")
    @Volatile private var wanted = true

    /** Starts to record. */
    fun start() = thread.start()

    /** Stops recording. The microphone is released within moments, by its own thread. */
    override fun close() {
        wanted = false
        thread.interrupt()
    }

    private fun run() {
        try {
            requireMicrophone()
            routeBluetooth { record() }
        } catch (_: InterruptedException) {
            return
        } catch (error: Throwable) { // an Error, too: nobody else would say that listening has ended
            if (wanted) listener.onFailure(error)
        }
    }

    private fun requireMicrophone() {
        if (context.checkSelfPermission(Manifest.permission.RECORD_AUDIO) != PackageManager.PERMISSION_GRANTED) {
            throw MicrophoneException(
                Problem.NO_PERMISSION,
                "no permission for the microphone; an activity must request android.permission.RECORD_AUDIO first",
            )
        }
        if (audio.getDevices(AudioManager.GET_DEVICES_INPUTS).isEmpty()) {
            throw MicrophoneException(Problem.NO_MICROPHONE, "this device has no microphone; connect one")
        }
    }

    /** A Bluetooth microphone is silent unless the connection is one for calls. */
    private fun routeBluetooth(task: () -> Unit) {
        val type = device?.type
        val bluetooth = type == AudioDeviceInfo.TYPE_BLUETOOTH_SCO || type == AudioDeviceInfo.TYPE_BLE_HEADSET
        if (!bluetooth || Build.VERSION.SDK_INT < Build.VERSION_CODES.S) return task()
        val link = audio.availableCommunicationDevices.firstOrNull { it.type == type }
        if (link == null || !audio.setCommunicationDevice(link)) {
            throw MicrophoneException(
                Problem.BUSY,
                "the Bluetooth microphone does not connect; end other calls, or choose another microphone",
            )
        }
        try {
            task()
        } finally {
            audio.clearCommunicationDevice()
        }
    }

    private fun record() {
        val clock = ReadClock()
        while (wanted) {
            val before = clock.lastRead
            open()?.let { use(it, clock) }
            if (clock.lastRead == before && wanted) pause(before)
        }
    }

    /** Waits before the next try, unless there is no hope. */
    private fun pause(lastRead: Long?) {
        if (lastRead == null) {
            throw MicrophoneException(
                Problem.BUSY,
                "the microphone cannot be opened; close other apps that record, or choose another microphone",
            )
        }
        if (SystemClock.elapsedRealtimeNanos() - lastRead > PATIENCE_NS) {
            throw MicrophoneException(
                Problem.LOST,
                "the microphone was lost and did not come back for ${PATIENCE_NS / 1_000_000_000} s; connect it again",
            )
        }
        Thread.sleep(PAUSE_MS)
    }

    private fun use(recorder: AudioRecord, clock: ReadClock) {
        val watcher = watchSilence(recorder)
        try {
            listener.onOpened(recorder.routedDevice)
            clock.restart()
            read(recorder, clock)
        } finally {
            if (watcher != null && Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q) {
                recorder.unregisterAudioRecordingCallback(watcher)
            }
            recorder.release()
        }
    }

    /** Reads until [close] is called or the microphone is lost. */
    private fun read(recorder: AudioRecord, clock: ReadClock) {
        val rate = recorder.sampleRate
        val channels = recorder.channelCount
        val buffer = 1_000_000_000L * recorder.bufferSizeInFrames / rate
        val chunk = FloatArray(rate / CHUNKS_PER_SECOND * channels)
        while (wanted) {
            val count = recorder.read(chunk, 0, chunk.size, AudioRecord.READ_BLOCKING)
            if (count <= 0) return // 0: the recorder has stopped
            val span = 1_000_000_000L * (count / channels) / rate
            val lost = clock.read(SystemClock.elapsedRealtimeNanos(), span, buffer)
            if (lost > 0) listener.onLost(lost)
            listener.onSamples(chunk.copyOf(count), rate, channels)
        }
    }

    /** Opens a recorder and starts it, with the best of the formats that work. Null if none does. */
    private fun open(): AudioRecord? {
        for ((rate, channels) in formats()) {
            val recorder = make(rate, channels) ?: continue
            try {
                recorder.startRecording()
                if (recorder.recordingState == AudioRecord.RECORDSTATE_RECORDING) return recorder
            } catch (_: IllegalStateException) { // another app has the microphone
            }
            recorder.release()
        }
        return null
    }

    /** Pairs of a rate and a number of channels: first what the device has, then what Android converts to. */
    private fun formats(): List<Pair<Int, Int>> {
        val (usual, higher) = device?.sampleRates?.toList().orEmpty().partition { it <= RATES[0] }
        val own = usual.sortedDescending() + higher.sorted()
        val counts = device?.channelCounts?.toList().orEmpty().filter { it in 1..MOST_CHANNELS }.sorted()
        return (counts + listOf(1, 2)).distinct().flatMap { count -> (own + RATES).distinct().map { it to count } }
    }

    @SuppressLint("MissingPermission") // see requireMicrophone
    private fun make(rate: Int, channels: Int): AudioRecord? {
        val format = AudioFormat.Builder().setEncoding(AudioFormat.ENCODING_PCM_FLOAT).setSampleRate(rate)
        when (channels) {
            1 -> format.setChannelMask(AudioFormat.CHANNEL_IN_MONO)
            2 -> format.setChannelMask(AudioFormat.CHANNEL_IN_STEREO)
            else -> format.setChannelIndexMask((1 shl channels) - 1)
        }
        val recorder = try {
            AudioRecord.Builder()
                .setAudioSource(MediaRecorder.AudioSource.VOICE_RECOGNITION) // the source without gain control
                .setAudioFormat(format.build())
                .setBufferSizeInBytes(rate * channels * Float.SIZE_BYTES) // 1 s: a delayed thread loses nothing
                .build()
        } catch (_: UnsupportedOperationException) {
            return null
        } catch (_: IllegalArgumentException) {
            return null
        }
        if (recorder.state != AudioRecord.STATE_INITIALIZED || (device != null && !recorder.setPreferredDevice(device))) {
            recorder.release()
            return null
        }
        return recorder
    }

    private fun watchSilence(recorder: AudioRecord): AudioManager.AudioRecordingCallback? {
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.Q) return null
        val session = recorder.audioSessionId
        val watcher = object : AudioManager.AudioRecordingCallback() {
            private var silenced = false

            override fun onRecordingConfigChanged(configs: List<AudioRecordingConfiguration>) {
                if (Build.VERSION.SDK_INT < Build.VERSION_CODES.Q) return
                val own = configs.firstOrNull { it.clientAudioSessionId == session } ?: return
                if (own.isClientSilenced == silenced) return
                silenced = !silenced
                listener.onSilenced(silenced)
            }
        }
        recorder.registerAudioRecordingCallback(Executor(Runnable::run), watcher)
        return watcher
    }

    private companion object {
        val RATES = listOf(48000, 44100, 32000, 16000, 8000) // 44100: all devices have it, natively or converted
        const val MOST_CHANNELS = 8
        const val CHUNKS_PER_SECOND = 10
        const val PATIENCE_NS = 30_000_000_000L
        const val PAUSE_MS = 500L
    }
}
