package io.github.pannslitert.litert

import android.content.Context
import android.os.Looper
import android.util.Log
import io.github.pannslitert.AudioException
import io.github.pannslitert.BundleException
import io.github.pannslitert.EngineException
import io.github.pannslitert.EventException
import io.github.pannslitert.LabelException
import io.github.pannslitert.MicrophoneException
import io.github.pannslitert.PrototypeException
import io.github.pannslitert.audio.Recording
import io.github.pannslitert.bundle.Bundle
import io.github.pannslitert.bundle.BundleFiles
import io.github.pannslitert.events.Event
import io.github.pannslitert.events.EventSettings
import io.github.pannslitert.measure.EngineChoice
import io.github.pannslitert.sense.Sense
import io.github.pannslitert.tagging.Aggregate
import io.github.pannslitert.tagging.Engine
import io.github.pannslitert.tagging.LongTagging
import io.github.pannslitert.tagging.ModelThread
import io.github.pannslitert.tagging.Prototypes
import io.github.pannslitert.tagging.RecordingEvents
import io.github.pannslitert.tagging.Tagger

/**
 * Tags sound with a bundle on the best engine of this phone:
 *
 * ```kotlin
 * val tagger = SoundTagger.open(context, "mn04") // the folder assets/mn04, on a background thread
 * val tags = tagger.tag(samples, rate = 44100).tags
 * val listening = tagger.listen { event -> Log.i("heard", event.label) }
 * ```
 *
 * The model runs on one thread, which every instance has for itself. Use an instance on any threads. All functions that
 * return a result wait for it: call them on a background thread.
 *
 * @property bundle the open bundle
 * @property attempts the self-tests of the engines, in the order of preference: why the engine is this one
 */
class SoundTagger private constructor(
    private val context: Context,
    val bundle: Bundle,
    private val choice: EngineChoice,
    top: Int,
    prototypes: Prototypes?,
    private val thread: ModelThread,
) : AutoCloseable {
    private val engine = checkNotNull(choice.engine)
    private val tagger = Tagger(bundle, engine, top, prototypes = prototypes)
    private var listening: Listening? = null
    private var closed = false // this and `listening` are used within `synchronized` only

    val attempts: List<EngineChoice.Attempt> get() = choice.attempts

    /** What runs the model, for example "GPU". */
    val backend: String get() = engine.backend

    /** Why this is not the fastest accelerator; null if it is. */
    val fallback: String? get() = engine.fallback

    /** Class names: the bundle's, then the enrolled ones. A [Sense] needs them. */
    val labels: List<String> get() = tagger.labels

    /**
     * Tags a recording of any length.
     *
     * @param samples 16-bit; several channels in turn: left, right, left, …
     * @param rate Hz
     * @throws AudioException there are no usable samples, or the rate or the channels are out of range
     * @throws EngineException the engine fails
     */
    fun tag(samples: ShortArray, rate: Int, channels: Int = 1): LongTagging = tag(Recording(samples, rate, channels))

    /** Tags a recording of float samples, nominally within [-1, 1], see the other function. */
    fun tag(samples: FloatArray, rate: Int, channels: Int = 1): LongTagging = tag(Recording(samples, rate, channels))

    /**
     * Tags a recording of any length, see [Tagger.tagLong].
     *
     * @throws AudioException, LabelException, EngineException as [Tagger.tagLong]
     */
    fun tag(
        recording: Recording,
        hopSeconds: Double = bundle.manifest.clipSeconds,
        aggregate: Aggregate = Aggregate.MEAN,
        sense: Sense? = null,
    ): LongTagging = onThread { it.tagLong(recording, hopSeconds, aggregate, sense) }

    /**
     * Finds the events of a recording, see [Tagger.findEvents].
     *
     * @throws AudioException, EventException, LabelException, EngineException as [Tagger.findEvents]
     */
    fun findEvents(
        recording: Recording,
        settings: EventSettings = EventSettings(),
        sense: Sense? = null,
    ): RecordingEvents = onThread { it.findEvents(recording, settings = settings, sense = sense) }

    /**
     * Listens to the microphone. The app must have the permission RECORD_AUDIO.
     *
     * An onset is told with the first window that reaches the threshold, so at most a hop after enough of the sound was
     * heard. In a bundle of 2 s windows, the hop is half a second.
     *
     * @param onEnd is told of events that are over, with their end and highest score
     * @param onFailure is told why listening ended by itself; by default it is logged. Nothing is told after it
     * @param onOnset is told of events that begin
     * @throws EventException a setting is out of range, or names an unknown class
     * @throws MicrophoneException the notification cannot be shown, because the app is in the background
     */
    fun listen(
        options: ListenOptions = ListenOptions(),
        onEnd: (Event) -> Unit = {},
        onFailure: (Throwable) -> Unit = { Log.e(LOG, "listening has ended: ${it.message}", it) },
        onOnset: (Onset) -> Unit,
    ): Listening {
        val listener = object : ListeningListener {
            override fun onOnset(label: String, start: Double) = onOnset(Onset(label, start))

            override fun onOffset(event: Event) = onEnd(event)

            override fun onFailure(error: Throwable) = onFailure(error)
        }
        return listen(listener, options)
    }

    /**
     * Listens to the microphone, and tells everything: windows, progress, and what is wrong with the sound. It replaces
     * what this instance has listened to before.
     *
     * @throws EventException, MicrophoneException as the other function
     * @throws IllegalStateException this instance is closed
     */
    @Synchronized
    fun listen(listener: ListeningListener, options: ListenOptions = ListenOptions()): Listening {
        check(!closed) { "this tagger is closed; open another one" }
        val windowMs = choice.result?.run { frontEndMs + modelMs } ?: 0.0
        val made = Listening(context, tagger, thread, windowMs, options, listener, ::forget)
        listening?.cancel()
        made.start()
        listening = made
        return made
    }

    @Synchronized
    private fun forget(over: Listening) {
        if (listening === over) listening = null
    }

    /**
     * Runs a task on the thread of the model, and waits for its result.
     *
     * @param task gets the tagger, which must not be used elsewhere
     * @throws IllegalStateException this instance is closed. Exceptions of the task are passed on
     */
    fun <T> onThread(task: (Tagger) -> T): T = thread.call { task(tagger) }

    /** Ends listening and closes the model, after the work that was begun. */
    override fun close() {
        val last = synchronized(this) {
            closed = true
            listening
        }
        last?.cancel()
        thread.end { engine.close() }
    }

    companion object {
        private const val LOG = "panns-litert"
        private const val TOP = 10

        /**
         * Opens a bundle in the assets of the app, see the other function.
         *
         * @param asset its folder in the assets: "mn04" for `src/main/assets/mn04`
         */
        fun open(context: Context, asset: String): SoundTagger = open(context, AssetFiles(context, asset))

        /**
         * Opens a bundle, and tests the engines of this phone with its self-test, which takes seconds. The best engine
         * that passes is used: the NPU if asked for, the GPU, or the CPU.
         *
         * @param files [AssetFiles], or a [io.github.pannslitert.bundle.BundleFolder] in the app's files
         * @param npu whether to try the NPU. The app must contain the libraries of its vendor
         * @param top maximum number of tags of a result
         * @param prototypes enrolled classes, as [Tagger] takes them: `Prototypes.read(file)`
         * @param onAttempts is told the result of the self-tests, also if none was passed
         * @throws BundleException a file is missing, altered or invalid
         * @throws EngineException no engine passes the self-test
         * @throws PrototypeException the prototypes are of another model, or have a class of this one
         * @throws IllegalStateException this is the main thread
         * @throws InterruptedException the thread was interrupted. What was begun is ended and closed in the background
         */
        fun open(
            context: Context,
            files: BundleFiles,
            npu: Boolean = false,
            top: Int = TOP,
            prototypes: Prototypes? = null,
            onAttempts: (List<EngineChoice.Attempt>) -> Unit = {},
        ): SoundTagger {
            check(Looper.myLooper() != Looper.getMainLooper()) { "SoundTagger.open takes seconds; open it on another thread" }
            val app = context.applicationContext
            val thread = ModelThread()
            var engine: Engine? = null // used on the thread only
            try {
                return thread.call {
                    val bundle = Bundle.open(files)
                    val choice = chooseEngine(app, bundle, npu)
                    engine = choice.engine
                    onAttempts(choice.attempts)
                    if (choice.engine == null) throw EngineException(noEngine(choice))
                    SoundTagger(app, bundle, choice, top, prototypes, thread)
                }
            } catch (error: Throwable) {
                thread.end { engine?.close() }
                throw error
            }
        }

        private fun noEngine(choice: EngineChoice) =
            "no engine of this phone passes the bundle's self-test, so there are no tags; use another model. " +
                choice.attempts.joinToString("; ") { "${it.name}: ${it.why}" }
    }
}
