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
import android.media.AudioRouting
import android.media.MediaRecorder
import android.os.Build
import android.os.Handler
import android.os.Looper
import android.os.SystemClock
import io.github.pannslitert.MicrophoneException
import io.github.pannslitert.MicrophoneException.Problem
import io.github.pannslitert.audio.ReadClock
import java.util.concurrent.CopyOnWriteArraySet
import java.util.concurrent.Executor
import java.util.concurrent.atomic.AtomicBoolean
import java.util.concurrent.atomic.AtomicInteger

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

/** The exception for a missing permission. */
internal fun noPermission(cause: Throwable? = null) = MicrophoneException(
    Problem.NO_PERMISSION,
    "no permission for the microphone; an activity must request android.permission.RECORD_AUDIO first",
    cause,
)

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
    /** Is called on the microphone's thread, but for [onSilenced]. */
    interface Listener {
        /** Samples within [-1, 1], channels in turn, and their rate in Hz. The array is not used again. */
        fun onSamples(samples: FloatArray, rate: Int, channels: Int)

        /** So much sound was lost before the next samples. */
        fun onLost(seconds: Double)

        /** A recorder was opened, on this device as far as Android tells. */
        fun onOpened(device: AudioDeviceInfo?)

        /** Whether Android gives zeros in place of the sound, for example because a call has the microphone. Any thread. */
        fun onSilenced(silenced: Boolean)

        /** Recording cannot start or go on. No call follows. */
        fun onFailure(error: Throwable)
    }

    private val audio = context.getSystemService(AudioManager::class.java)
    private val thread = Thread(::run, "microphone")
    @Volatile private var wanted = true
    private var silenced = false

    /** Starts to record. */
    fun start() = thread.start()

    /** Stops recording. The microphone is released within moments, by its own thread. */
    override fun close() {
        wanted = false
        closing += thread
        if (!thread.isAlive) closing -= thread // it was not started, or has ended
        thread.interrupt()
    }

    private fun run() {
        try {
            // A recorder that is still open would have the device, and would end a Bluetooth connection after this began.
            for (other in closing) if (other !== thread) other.join(MOST_CLOSING_MS)
            requireMicrophone()
            record()
        } catch (_: InterruptedException) {
            return
        } catch (error: Throwable) { // an Error, too: nobody else would say that listening has ended
            if (wanted) listener.onFailure(error)
        } finally {
            closing -= thread
        }
    }

    private fun requireMicrophone() {
        if (context.checkSelfPermission(Manifest.permission.RECORD_AUDIO) != PackageManager.PERMISSION_GRANTED) {
            throw noPermission()
        }
        val builtIn = context.packageManager.hasSystemFeature(PackageManager.FEATURE_MICROPHONE)
        if (!builtIn && microphones(context).isEmpty()) {
            throw MicrophoneException(Problem.NO_MICROPHONE, "this device has no microphone; connect one")
        }
    }

    private fun record() {
        val clock = ReadClock()
        val begun = SystemClock.elapsedRealtimeNanos()
        while (wanted) {
            val before = clock.lastRead
            val wished = present()
            routeBluetooth(wished) { open(wished)?.let { use(it, clock) } }
            if (clock.lastRead == before && wanted) pause(begun, before)
        }
    }

    /** The chosen microphone as it is connected now: it has another ID after it was plugged in again. Null if it is gone. */
    private fun present(): AudioDeviceInfo? {
        if (device == null) return null
        val all = microphones(context)
        return all.find { it.id == device.id }
            ?: all.find { it.type == device.type && "${it.productName}" == "${device.productName}" }
    }

    /** A Bluetooth microphone is silent unless the connection is one for calls. */
    private fun routeBluetooth(wished: AudioDeviceInfo?, task: () -> Unit) {
        val bluetooth =
            wished?.type == AudioDeviceInfo.TYPE_BLUETOOTH_SCO || wished?.type == AudioDeviceInfo.TYPE_BLE_HEADSET
        if (wished == null || !bluetooth || Build.VERSION.SDK_INT < Build.VERSION_CODES.S) return task()
        val links = audio.availableCommunicationDevices.filter { it.type == wished.type }
        val link = links.find { it.address == wished.address } ?: links.firstOrNull()
        if (link == null || !audio.setCommunicationDevice(link)) return // it may come back, see `pause`
        try {
            task()
        } finally {
            audio.clearCommunicationDevice()
        }
    }

    /** Waits before the next try, unless there is no hope. */
    private fun pause(begun: Long, lastRead: Long?) {
        val now = SystemClock.elapsedRealtimeNanos()
        if (lastRead == null && now - begun > FIRST_PATIENCE_NS) {
            throw MicrophoneException(
                Problem.BUSY,
                "the microphone cannot be opened; close other apps that record, or choose another microphone",
            )
        }
        if (lastRead != null && now - lastRead > PATIENCE_NS) {
            throw MicrophoneException(
                Problem.LOST,
                "the microphone was lost and did not come back for ${PATIENCE_NS / 1_000_000_000} s; connect it again",
            )
        }
        Thread.sleep(PAUSE_MS)
    }

    private fun use(recorder: AudioRecord, clock: ReadClock) {
        val moved = AtomicBoolean()
        val router = watchRoute(recorder, moved)
        val watcher = watchSilence(recorder)
        try {
            listener.onOpened(recorder.routedDevice)
            clock.restart()
            read(recorder, clock, moved)
        } finally {
            recorder.removeOnRoutingChangedListener(router)
            if (watcher != null && Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q) {
                recorder.unregisterAudioRecordingCallback(watcher)
            }
            recorder.release()
        }
    }

    /** Reads until [close] is called, the microphone gives nothing any more, or it is no longer the same. */
    private fun read(recorder: AudioRecord, clock: ReadClock, moved: AtomicBoolean) {
        val rate = recorder.sampleRate
        val channels = recorder.channelCount
        val buffer = 1_000_000_000L * recorder.bufferSizeInFrames / rate
        val chunk = FloatArray(rate / CHUNKS_PER_SECOND * channels)
        var waited = 0
        while (wanted && !moved.get()) {
            // Not blocking: a read that blocks cannot be ended, and does not return from a driver that is stuck.
            val count = recorder.read(chunk, 0, chunk.size, AudioRecord.READ_NON_BLOCKING)
            if (count < 0) return
            if (count == 0) {
                if (++waited > MOST_WAITS) return
                Thread.sleep(WAIT_MS)
                continue
            }
            waited = 0
            val span = 1_000_000_000L * (count / channels) / rate
            val lost = clock.read(SystemClock.elapsedRealtimeNanos(), span, buffer)
            if (lost > 0) listener.onLost(lost)
            listener.onSamples(chunk.copyOf(count), rate, channels)
        }
    }

    /** Opens a recorder and starts it, with the best of the formats that work. Null if none does. */
    private fun open(wished: AudioDeviceInfo?): AudioRecord? {
        for ((rate, channels) in formats(wished)) {
            val recorder = make(wished, rate, channels) ?: continue
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
    private fun formats(wished: AudioDeviceInfo?): List<Pair<Int, Int>> {
        val (usual, higher) = wished?.sampleRates?.toList().orEmpty().partition { it <= RATES[0] }
        val own = usual.sortedDescending() + higher.sorted()
        val counts = wished?.channelCounts?.toList().orEmpty().filter { it in 1..MOST_CHANNELS }.sorted()
        return (counts + listOf(1, 2)).distinct().flatMap { count -> (own + RATES).distinct().map { it to count } }
    }

    @SuppressLint("MissingPermission") // see requireMicrophone
    private fun make(wished: AudioDeviceInfo?, rate: Int, channels: Int): AudioRecord? {
        val recorder = try {
            val format = AudioFormat.Builder().setEncoding(AudioFormat.ENCODING_PCM_FLOAT).setSampleRate(rate)
            when (channels) {
                1 -> format.setChannelMask(AudioFormat.CHANNEL_IN_MONO)
                2 -> format.setChannelMask(AudioFormat.CHANNEL_IN_STEREO)
                else -> format.setChannelIndexMask((1 shl channels) - 1)
            }
            AudioRecord.Builder()
                .setAudioSource(MediaRecorder.AudioSource.VOICE_RECOGNITION) // the source without gain control
                .setAudioFormat(format.build())
                .setBufferSizeInBytes(rate * channels * Float.SIZE_BYTES) // 1 s: a delayed thread loses nothing
                .build()
        } catch (_: UnsupportedOperationException) {
            return null
        } catch (_: IllegalArgumentException) { // a rate that this version of Android does not know
            return null
        }
        if (recorder.state != AudioRecord.STATE_INITIALIZED || (wished != null && !recorder.setPreferredDevice(wished))) {
            recorder.release()
            return null
        }
        return recorder
    }

    /** Notes when Android goes on with another microphone, which it does without a word to the reader. */
    private fun watchRoute(recorder: AudioRecord, moved: AtomicBoolean): AudioRouting.OnRoutingChangedListener {
        val known = AtomicInteger(recorder.routedDevice?.id ?: UNKNOWN_DEVICE)
        val router = AudioRouting.OnRoutingChangedListener { routing ->
            val now = routing.routedDevice?.id
            if (now != null && !known.compareAndSet(UNKNOWN_DEVICE, now) && known.get() != now) moved.set(true)
        }
        recorder.addOnRoutingChangedListener(router, Handler(Looper.getMainLooper()))
        return router
    }

    private fun watchSilence(recorder: AudioRecord): AudioManager.AudioRecordingCallback? {
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.Q) return null
        val session = recorder.audioSessionId
        val watcher = object : AudioManager.AudioRecordingCallback() {
            override fun onRecordingConfigChanged(configs: List<AudioRecordingConfiguration>) {
                if (Build.VERSION.SDK_INT < Build.VERSION_CODES.Q) return
                configs.firstOrNull { it.clientAudioSessionId == session }?.let { silenced(it.isClientSilenced) }
            }
        }
        recorder.registerAudioRecordingCallback(Executor(Runnable::run), watcher)
        silenced(recorder.activeRecordingConfiguration?.isClientSilenced == true) // only changes are called back
        return watcher
    }

    @Synchronized
    private fun silenced(now: Boolean) {
        if (now == silenced) return
        silenced = now
        listener.onSilenced(now)
    }

    private companion object {
        val closing = CopyOnWriteArraySet<Thread>() // microphones that are being released
        val RATES = listOf(48000, 44100, 32000, 16000, 8000) // 44100: all devices have it, natively or converted
        const val MOST_CHANNELS = 8
        const val CHUNKS_PER_SECOND = 10
        const val WAIT_MS = 50L
        const val MOST_WAITS = 60 // 3 s: a Bluetooth connection takes a while
        const val FIRST_PATIENCE_NS = 5_000_000_000L
        const val PATIENCE_NS = 30_000_000_000L
        const val PAUSE_MS = 500L
        const val MOST_CLOSING_MS = 2000L
        const val UNKNOWN_DEVICE = -1
    }
}
