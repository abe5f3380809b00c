package io.github.pannslitert.demo

import android.content.Context
import android.media.AudioFormat
import android.media.MediaCodec
import android.media.MediaExtractor
import android.media.MediaFormat
import android.net.Uri
import io.github.pannslitert.audio.Resampler
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.ByteOrder

/**
 * Decodes the start of an audio file to mono samples within [-1, 1]. Supports all formats that the phone can play.
 *
 * @param rate sample rate of the result, Hz
 * @param most maximum number of samples
 * @throws IOException the file cannot be read as audio
 */
fun decodeAudio(context: Context, uri: Uri, rate: Int, most: Int): FloatArray {
    val extractor = MediaExtractor()
    try {
        extractor.setDataSource(context, uri, null)
        val formats = List(extractor.trackCount, extractor::getTrackFormat)
        val track = formats.indexOfFirst { it.getString(MediaFormat.KEY_MIME)?.startsWith("audio/") == true }
        if (track < 0) throw IOException(context.getString(R.string.file_without_audio))
        extractor.selectTrack(track)
        return decode(extractor, formats[track], rate, most)
    } catch (error: IllegalStateException) { // includes MediaCodec.CodecException
        throw IOException(context.getString(R.string.file_undecodable, error.message), error)
    } finally {
        extractor.release()
    }
}

private fun decode(extractor: MediaExtractor, format: MediaFormat, rate: Int, most: Int): FloatArray {
    val mime = format.getString(MediaFormat.KEY_MIME) ?: throw IOException("a track without a format")
    val codec = MediaCodec.createDecoderByType(mime)
    try {
        codec.configure(format, null, null, 0)
        codec.start()
        val sound = Sound(rate, most)
        val info = MediaCodec.BufferInfo()
        var fed = false
        while (!sound.full && info.flags and MediaCodec.BUFFER_FLAG_END_OF_STREAM == 0) {
            if (!fed) fed = feed(codec, extractor)
            val index = codec.dequeueOutputBuffer(info, TIMEOUT_US)
            if (index < 0) continue // the format has changed, or there is no output yet
            val buffer = codec.getOutputBuffer(index) ?: throw IOException("the decoder gave no buffer")
            sound.add(buffer.order(ByteOrder.nativeOrder()), codec.getOutputFormat(index))
            codec.releaseOutputBuffer(index, false)
        }
        return sound.finish()
    } finally {
        codec.release()
    }
}

/** Passes the next piece of the file to the decoder. Returns true if that was the end of the file. */
private fun feed(codec: MediaCodec, extractor: MediaExtractor): Boolean {
    val index = codec.dequeueInputBuffer(TIMEOUT_US)
    if (index < 0) return false
    val buffer = codec.getInputBuffer(index) ?: throw IOException("the decoder takes no buffer")
    val size = extractor.readSampleData(buffer, 0)
    if (size < 0) {
        codec.queueInputBuffer(index, 0, 0, 0, MediaCodec.BUFFER_FLAG_END_OF_STREAM)
        return true
    }
    codec.queueInputBuffer(index, 0, size, extractor.sampleTime, 0)
    extractor.advance()
    return false
}

/** Collects the output of a decoder as mono samples at one rate. */
private class Sound(private val rate: Int, most: Int) {
    private val samples = FloatArray(most)
    private var used = 0
    private var resampler: Resampler? = null
    val full: Boolean get() = used == samples.size

    fun add(pcm: ByteBuffer, format: MediaFormat) {
        val from = format.getInteger(MediaFormat.KEY_SAMPLE_RATE)
        val channels = format.getInteger(MediaFormat.KEY_CHANNEL_COUNT)
        val isFloat = format.containsKey(MediaFormat.KEY_PCM_ENCODING) &&
            format.getInteger(MediaFormat.KEY_PCM_ENCODING) == AudioFormat.ENCODING_PCM_FLOAT
        val values = if (isFloat) {
            pcm.asFloatBuffer().let { FloatArray(it.remaining(), it::get) }
        } else {
            pcm.asShortBuffer().let { FloatArray(it.remaining()) { i -> it.get(i) / 32768f } }
        }
        val mono = FloatArray(values.size / channels) { i ->
            var sum = 0f
            for (channel in 0 until channels) sum += values[i * channels + channel]
            sum / channels
        }
        // Some decoders know the rate only now. If the rate changes within a file, resampling starts anew.
        val current = resampler?.takeIf { it.fromRate == from } ?: Resampler(from, rate).also { resampler = it }
        append(current.push(mono))
    }

    fun finish(): FloatArray {
        resampler?.let { append(it.finish()) }
        return samples.copyOf(used)
    }

    private fun append(more: FloatArray) {
        val count = minOf(more.size, samples.size - used)
        more.copyInto(samples, used, 0, count)
        used += count
    }
}

private const val TIMEOUT_US = 10_000L
