package io.github.pannslitert.litert

import android.app.Activity
import android.content.Context
import android.media.AudioAttributes
import android.media.AudioDeviceInfo
import android.media.AudioFocusRequest
import android.media.AudioManager
import android.os.Handler
import android.os.Looper
import io.github.pannslitert.MicrophoneException
import io.github.pannslitert.events.EventChange
import io.github.pannslitert.events.EventSettings
import io.github.pannslitert.sense.Sense
import io.github.pannslitert.tagging.LiveListener
import io.github.pannslitert.tagging.LiveProgress
import io.github.pannslitert.tagging.LiveTagger
import io.github.pannslitert.tagging.Tagger
import io.github.pannslitert.tagging.Tagging
import java.util.concurrent.Executor
import java.util.concurrent.RejectedExecutionException

/** The beginning of an event: its class, and when it began, in seconds since listening began. */
class Onset(val label: String, val start: Double)

/**
 * How to listen.
 *
 * @property settings thresholds of events
 * @property sense converts the probabilities of each window to scores first; null to leave them
 * @property hopSeconds time from one window to the next; null for a quarter of a window, at most 1 s, or longer if the
 *     phone needs longer
 * @property microphone one of [microphones]; null for Android's choice
 * @property pauseOthers whether music and speech of other apps pause while this app listens
 * @property notification shown while listening goes on in the background, by [ListeningService]; null to listen only
 *     while the app is visible: in the background, Android gives only zeros
 * @property executor where the listener is called, one call after the other; null for the main thread
 */
class ListenOptions(
    val settings: EventSettings = EventSettings(),
    val sense: Sense? = null,
    val hopSeconds: Double? = null,
    val microphone: AudioDeviceInfo? = null,
    val pauseOthers: Boolean = false,
    val notification: ListeningNotification? = null,
    val executor: Executor? = null,
)

/**
 * What the notification of [ListeningService] shows. The texts should be in the user's language.
 *
 * @property title for example the app's name
 * @property text below the title; [Listening.showText] changes it
 * @property stop name of the button that ends listening
 * @property channel name of the notifications' channel, in the system's settings
 * @property icon a drawable resource
 * @property activity is opened when the notification is touched; null for none
 */
class ListeningNotification(
    val title: CharSequence,
    val text: CharSequence,
    val stop: CharSequence,
    val channel: CharSequence = title,
    val icon: Int = R.drawable.panns_litert_listening,
    val activity: Class<out Activity>? = null,
)

/** Is told of what is heard. Times are seconds since listening began. */
interface ListeningListener : LiveListener {
    /** A microphone was opened; null if Android does not say which. Again after another one was connected. */
    fun onMicrophone(microphone: AudioDeviceInfo?) = Unit

    /** Whether Android gives zeros in place of the sound: a call or another app has the microphone. */
    fun onSilenced(silenced: Boolean) = Unit

    /** Whether another app plays sound or a call goes on; only with [ListenOptions.pauseOthers]. */
    fun onInterrupted(interrupted: Boolean) = Unit
}

/** Listening that goes on until [stop] or [cancel]; made by [SoundTagger.listen]. */
class Listening internal constructor(
    private val context: Context,
    tagger: Tagger,
    thread: Executor,
    windowMs: Double,
    private val options: ListenOptions,
    listener: ListeningListener,
    private val onOver: (Listening) -> Unit,
) {
    private val main = Handler(Looper.getMainLooper())
    private val told = Dispatched(listener, options.executor ?: Executor { main.post(it) }) { over() }
    private val live = LiveTagger(
        tagger,
        thread,
        told,
        options.hopSeconds ?: LiveTagger.hopFor(tagger.bundle.manifest.clipSeconds, windowMs),
        options.settings,
        options.sense,
    )
    private val audio = context.getSystemService(AudioManager::class.java)
    private val microphone = Microphone(context, options.microphone, Heard())
    private var focus: AudioFocusRequest? = null
    private var released = false // this and `focus` are used within `synchronized` only

    /** Length of a window, seconds. */
    val windowSeconds: Double get() = live.windowSeconds

    /** Time from one window to the next, seconds. */
    val hopSeconds: Double get() = live.hopSeconds

    internal fun start() {
        try {
            options.notification?.let { ListeningService.start(context, it, this) }
            if (options.pauseOthers) requestFocus()
            microphone.start()
        } catch (error: Throwable) {
            cancel()
            throw error
        }
    }

    /** Releases the microphone. What was heard until now is still tagged, then the listener gets `onEnd`. */
    fun stop() {
        release()
        live.finish()
    }

    /** Releases the microphone. The listener is not called any more. */
    fun cancel() {
        told.closed = true
        release()
        live.cancel()
        over()
    }

    /** Changes the text of the notification, for example to the newest event. */
    fun showText(text: CharSequence) = ListeningService.show(context, text, this)

    internal fun fail(error: Throwable) {
        release()
        live.cancel()
        told.onFailure(error)
    }

    @Synchronized
    private fun release() {
        released = true
        microphone.close()
        focus?.let(audio::abandonAudioFocusRequest)
        focus = null
    }

    private fun over() {
        release()
        ListeningService.stop(context, this)
        onOver(this)
    }

    @Synchronized
    private fun requestFocus() {
        if (released) return
        val attributes = AudioAttributes.Builder().setUsage(AudioAttributes.USAGE_ASSISTANT).build()
        val request = AudioFocusRequest.Builder(AudioManager.AUDIOFOCUS_GAIN_TRANSIENT_EXCLUSIVE)
            .setAudioAttributes(attributes)
            .setAcceptsDelayedFocusGain(true) // after a call
            .setOnAudioFocusChangeListener({ change -> onFocus(change) }, main)
            .build()
        focus = request
        if (audio.requestAudioFocus(request) != AudioManager.AUDIOFOCUS_REQUEST_GRANTED) told.onInterrupted(true)
    }

    private fun onFocus(change: Int) {
        told.onInterrupted(change != AudioManager.AUDIOFOCUS_GAIN)
        // Android does not give the focus back to an app that lost it for good.
        if (change == AudioManager.AUDIOFOCUS_LOSS) main.postDelayed(::regainFocus, REGAIN_MS)
    }

    @Synchronized
    private fun regainFocus() {
        val request = focus ?: return
        if (!audio.isMusicActive && audio.requestAudioFocus(request) == AudioManager.AUDIOFOCUS_REQUEST_GRANTED) {
            told.onInterrupted(false)
        } else {
            main.postDelayed(::regainFocus, REGAIN_MS)
        }
    }

    /** Passes the microphone's sound to the tagger. */
    private inner class Heard : Microphone.Listener {
        override fun onSamples(samples: FloatArray, rate: Int, channels: Int) = live.push(samples, rate, channels)

        override fun onLost(seconds: Double) = live.lose(seconds)

        override fun onOpened(device: AudioDeviceInfo?) = told.onMicrophone(device)

        override fun onSilenced(silenced: Boolean) = told.onSilenced(silenced)

        override fun onFailure(error: Throwable) =
            if (error is MicrophoneException && error.problem == MicrophoneException.Problem.LOST) {
                endWith(error)
            } else {
                fail(error)
            }
    }

    /** Ends listening because of an error, after everything that was heard before it was told. */
    private fun endWith(error: Throwable) {
        told.reason = error
        stop()
    }

    private companion object {
        const val REGAIN_MS = 2000L
    }

    /** Calls a listener on an executor, in order, until it is closed or the end was told. */
    private class Dispatched(
        private val listener: ListeningListener,
        private val executor: Executor,
        private val onOver: () -> Unit,
    ) : ListeningListener {
        @Volatile var closed = false
        @Volatile var reason: Throwable? = null // why listening ends, if nobody asked for it

        private val waiting = ArrayDeque<Runnable>()
        private var active = false

        private fun tell(call: ListeningListener.() -> Unit) {
            synchronized(waiting) {
                waiting += Runnable { if (!closed) listener.call() }
                if (active) return
                active = true
            }
            next()
        }

        /** Runs the first call that waits. The executor may have several threads, but the calls come in order. */
        private fun next() {
            val call = synchronized(waiting) { waiting.removeFirstOrNull().also { active = it != null } } ?: return
            try {
                executor.execute {
                    try {
                        call.run()
                    } finally {
                        next()
                    }
                }
            } catch (_: RejectedExecutionException) { // the executor was shut down: nobody is told any more
                closed = true
                onOver()
            }
        }

        override fun onWindow(tagging: Tagging) = tell { onWindow(tagging) }

        override fun onChange(change: EventChange) = tell { onChange(change) }

        override fun onProgress(progress: LiveProgress) = tell { onProgress(progress) }

        override fun onMicrophone(microphone: AudioDeviceInfo?) = tell { onMicrophone(microphone) }

        override fun onSilenced(silenced: Boolean) = tell { onSilenced(silenced) }

        override fun onInterrupted(interrupted: Boolean) = tell { onInterrupted(interrupted) }

        override fun onEnd() = end { reason?.let(::onFailure) ?: onEnd() }

        override fun onFailure(error: Throwable) = end { onFailure(error) }

        private fun end(call: ListeningListener.() -> Unit) {
            try {
                tell {
                    closed = true
                    call()
                }
            } finally {
                onOver()
            }
        }
    }
}
