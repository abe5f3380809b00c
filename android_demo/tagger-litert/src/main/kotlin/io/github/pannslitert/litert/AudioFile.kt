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
        if (warning == null && missing > max(LEAST_MISSING, decodedSeconds / 100)) {
            warning = "%.1f s of %.1f s could be decoded; the file may be cut".format(decodedSeconds, durationSeconds)
        }
    }

    /** Decodes the file. Ends at its end, or with a [warning] where it cannot be decoded any more. */
    private fun pieces(): Sequence<Piece> = sequence {
        var progress = System.nanoTime()
        while (info.flags and MediaCodec.BUFFER_FLAG_END_OF_STREAM == 0) {
            val piece = try {
                synchronized(this@AudioFile) {
                    if (closed) throw CancellationException("the file was closed")
                    step()
                }
            } catch (error: IllegalStateException) { // includes MediaCodec.CodecException
                if (error is CancellationException) throw error
                warning = "decoding ended at %.1f s: %s".format(decodedSeconds, error.message ?: "the decoder failed")
                return@sequence
            }
            if (piece != null) {
                progress = System.nanoTime()
                decodedSeconds += piece.samples.size.toDouble() / piece.rate
                yield(piece)
            } else if (System.nanoTime() - progress > PATIENCE_NS) {
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
        val isFloat = format.containsKey(MediaFormat.KEY_PCM_ENCODING) &&
            format.getInteger(MediaFormat.KEY_PCM_ENCODING) == AudioFormat.ENCODING_PCM_FLOAT
        val values = if (isFloat) {
            pcm.asFloatBuffer().let { FloatArray(it.remaining(), it::get) }
        } else {
            pcm.asShortBuffer().let { FloatArray(it.remaining()) { i -> it.get(i) / FULL_SCALE } }
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
        private const val PATIENCE_NS = 10_000_000_000L
        private const val FULL_SCALE = 32768f
        private const val LEAST_MISSING = 0.5 // seconds; encoders' padding is shorter

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
