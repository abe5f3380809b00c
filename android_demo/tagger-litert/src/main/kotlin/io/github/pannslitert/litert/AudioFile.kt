package io.github.pannslitert.litert

import android.content.Context
import android.media.AudioFormat
import android.media.MediaCodec
import android.media.MediaExtractor
import android.media.MediaFormat
import android.net.Uri
import io.github.pannslitert.audio.MonoResampler
import io.github.pannslitert.audio.Recording
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.concurrent.CancellationException
import kotlin.math.max
import kotlin.math.min

/**
 * An audio file of any format that the phone can play, for the tagger:
 *
 * ```kotlin
 * AudioFile.open(context, uri).use { file ->
 *     val tagging = tagger.tag(file.recording)
 *     file.warning?.let(::show) // a damaged file: not all of it was heard
 * }
 * ```
 *
 * @property recording its samples, mono, decoded while they are asked for: only once. If decoding fails in the middle,
 *     the recording ends there, and [warning] says so
 * @property durationSeconds its length as the file states it; null if it does not
 */
class AudioFile private constructor(private val extractor: MediaExtractor, format: MediaFormat) : AutoCloseable {
    private class Piece(val samples: FloatArray, val rate: Int)

    private val codec: MediaCodec
    private val info = MediaCodec.BufferInfo()
    private val pieces = pieces().iterator()
    private var fed = false
    private var read = false
    @Volatile private var closed = false

    val recording: Recording
    val durationSeconds: Double? =
        if (format.containsKey(MediaFormat.KEY_DURATION)) format.getLong(MediaFormat.KEY_DURATION) / 1e6 else null

    /** How much of it has been decoded so far. Any thread may ask. */
    @Volatile var decodedSeconds: Double = 0.0
        private set

    /** Why less than the whole file was heard; null if nothing is known to be missing. Final after the last sample. */
    @Volatile var warning: String? = null
        private set

    init {
        codec = MediaCodec.createDecoderByType(format.getString(MediaFormat.KEY_MIME).orEmpty())
        try {
            codec.configure(format, null, null, 0)
            codec.start()
            // Some decoders know the rate only with the first samples.
            if (!pieces.hasNext()) throw IOException(warning ?: "no samples; expected audio")
            val first = pieces.next()
            recording = Recording(first.rate, channels = 1, chunks = samples(first))
        } catch (error: Throwable) {
            codec.release()
            throw error
        }
    }

    /** Ends decoding, also from another thread: then who reads the recording gets a [CancellationException]. */
    override fun close() {
        closed = true
        synchronized(this) {
            codec.release()
            extractor.release()
        }
    }

    private fun samples(first: Piece): Sequence<FloatArray> = sequence {
        check(!read) { "the file was read already; open it again" }
        read = true
        yield(first.samples)
        var resampler: MonoResampler? = null // for files that change their rate
        for (piece in pieces) {
            if (piece.rate != (resampler?.fromRate ?: first.rate)) {
                resampler?.let { yield(it.finish()) }
                resampler = if (piece.rate == first.rate) null else MonoResampler(piece.rate, first.rate)
            }
            yield(resampler?.push(piece.samples) ?: piece.samples)
        }
        resampler?.let { yield(it.finish()) }
        val missing = (durationSeconds ?: 0.0) - decodedSeconds
        if (warning == null && missing > max(LEAST_MISSING, min(decodedSeconds / 100, MOST_MISSING))) {
            warning = "%.1f s of %.1f s could be decoded; the file may be cut".format(decodedSeconds, durationSeconds)
        }
    }

    /** Decodes the file. Ends at its end, or with a [warning] where it cannot be decoded any more. */
    private fun pieces(): Sequence<Piece> = sequence {
        var idle = 0 // steps without samples, each of which waits for some
        while (info.flags and MediaCodec.BUFFER_FLAG_END_OF_STREAM == 0) {
            val piece = try {
                synchronized(this@AudioFile) {
                    if (closed) throw CancellationException("the file was closed")
                    step()
                }
            } catch (error: RuntimeException) {
                // Of the codec (CodecException is an IllegalStateException), and of an extractor that cannot read on.
                val known = error is IllegalStateException || error is IllegalArgumentException
                if (error is CancellationException || !known) throw error
                warning = "decoding ended at %.1f s: %s".format(decodedSeconds, error.message ?: "the decoder failed")
                return@sequence
            }
            if (piece != null) {
                idle = 0
                decodedSeconds += piece.samples.size.toDouble() / piece.rate
                yield(piece)
            } else if (++idle > MOST_IDLE) {
                warning = "decoding ended at %.1f s: the decoder does not answer".format(decodedSeconds)
                return@sequence
            }
        }
    }

    /** Gives the decoder more of the file, and takes the samples that are ready; null if there are none. */
    private fun step(): Piece? {
        if (!fed) fed = feed()
        val index = codec.dequeueOutputBuffer(info, TIMEOUT_US)
        if (index < 0) return null // the format has changed, or there is no output yet
        val buffer = codec.getOutputBuffer(index) ?: throw IllegalStateException("the decoder gave no buffer")
        val piece = mono(buffer.order(ByteOrder.nativeOrder()), codec.getOutputFormat(index))
        codec.releaseOutputBuffer(index, false)
        return piece.takeIf { it.samples.isNotEmpty() }
    }

    /** Passes the next piece of the file to the decoder. Returns true if that was the end of the file. */
    private fun feed(): Boolean {
        val index = codec.dequeueInputBuffer(TIMEOUT_US)
        if (index < 0) return false
        val buffer = codec.getInputBuffer(index) ?: throw IllegalStateException("the decoder takes no buffer")
        val size = extractor.readSampleData(buffer, 0)
        if (size < 0) {
            codec.queueInputBuffer(index, 0, 0, 0, MediaCodec.BUFFER_FLAG_END_OF_STREAM)
            return true
        }
        codec.queueInputBuffer(index, 0, size, extractor.sampleTime, 0)
        extractor.advance()
        return false
    }

    private fun mono(pcm: ByteBuffer, format: MediaFormat): Piece {
        val channels = format.getInteger(MediaFormat.KEY_CHANNEL_COUNT)
        val encoding = if (format.containsKey(MediaFormat.KEY_PCM_ENCODING)) {
            format.getInteger(MediaFormat.KEY_PCM_ENCODING)
        } else {
            AudioFormat.ENCODING_PCM_16BIT
        }
        val values = when (encoding) {
            AudioFormat.ENCODING_PCM_FLOAT -> pcm.asFloatBuffer().let { FloatArray(it.remaining(), it::get) }
            AudioFormat.ENCODING_PCM_16BIT -> pcm.asShortBuffer().let { FloatArray(it.remaining()) { i -> it.get(i) / 32768f } }
            AudioFormat.ENCODING_PCM_32BIT -> pcm.asIntBuffer().let { FloatArray(it.remaining()) { i -> it.get(i) / 2147483648f } }
            AudioFormat.ENCODING_PCM_8BIT -> FloatArray(pcm.remaining()) { i -> ((pcm.get(pcm.position() + i).toInt() and 0xFF) - 128) / 128f }
            else -> throw IllegalStateException("the decoder gives PCM of encoding $encoding; expected 8, 16, 32 bits or float")
        }
        val samples = FloatArray(values.size / channels) { i ->
            var sum = 0f
            for (channel in 0 until channels) sum += values[i * channels + channel]
            sum / channels
        }
        return Piece(samples, format.getInteger(MediaFormat.KEY_SAMPLE_RATE))
    }

    companion object {
        private const val TIMEOUT_US = 10_000L
        private const val MOST_IDLE = 1000 // 10 s
        private const val LEAST_MISSING = 0.5 // seconds; encoders' padding is shorter
        private const val MOST_MISSING = 5.0 // containers state a duration only roughly

        /**
         * Opens a file.
         *
         * @throws IOException it cannot be read, or the phone cannot decode it as audio
         */
        fun open(context: Context, uri: Uri): AudioFile {
            val extractor = MediaExtractor()
            try {
                extractor.setDataSource(context, uri, null)
                val formats = List(extractor.trackCount, extractor::getTrackFormat)
                val track = formats.indexOfFirst { it.getString(MediaFormat.KEY_MIME)?.startsWith("audio/") == true }
                if (track < 0) throw IOException("no audio in this file; expected an audio track")
                extractor.selectTrack(track)
                return AudioFile(extractor, formats[track])
            } catch (error: Throwable) {
                extractor.release()
                // Both are what Android throws for a format that it does not know, and when a decoder fails.
                if (error !is IllegalStateException && error !is IllegalArgumentException) throw error
                throw IOException("this file cannot be decoded (${error.message}); expected audio", error)
            }
        }
    }
}
