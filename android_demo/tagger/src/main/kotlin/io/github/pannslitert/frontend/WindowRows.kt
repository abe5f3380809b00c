package io.github.pannslitert.frontend

/**
 * Holds the rows of a stream from the start of the last window on, so that the window at the end of the stream can begin
 * anywhere after that. A row is a frame or a sample. Allocates no memory after construction.
 *
 * @param size rows of a window
 * @param hop rows from one window to the next
 * @param width values of a row
 */
internal class WindowRows(private val size: Int, private val hop: Int, private val width: Int) {
    /** The rows, row-major. New ones are written from index [end] · width on, at most [room] of them. */
    val values = FloatArray((size + hop) * width)
    /** Position in the stream of the first row that is held: the start of the last window. */
    var first = 0L
        private set

    /** Position in the stream of the next row to be written. */
    var next = 0L
        private set

    /** Position in the stream of the next window. */
    var start = 0L
        private set

    /** Number of rows that are held. */
    val end: Int get() = (next - first).toInt()

    /** Number of rows that the next window lacks. */
    val room: Int get() = (start + size - next).toInt()

    /** Says that [count] rows were written. */
    fun wrote(count: Int) {
        next += count
    }

    /** Copies the window that begins at row [from] of the stream to [window], and goes on to the one a hop after it. */
    fun take(window: FloatArray, from: Long) {
        val drop = (from - first).toInt() * width
        values.copyInto(window, 0, drop, drop + size * width)
        values.copyInto(values, 0, drop, end * width)
        first = from
        start = from + hop
    }
}
