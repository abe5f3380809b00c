package io.github.pannslitert.demo

import android.content.Context
import android.graphics.Canvas
import android.graphics.Paint
import android.os.SystemClock
import android.text.TextPaint
import android.text.TextUtils
import android.util.AttributeSet
import android.util.TypedValue
import android.view.View

/**
 * Shows a timeline with an axis of times, from left to right in every language, as players do. Each class has a row:
 * its name, and below it a pale bar for each step, the stronger the higher the score, and a dark line for each event.
 */
class TimelineView(context: Context, attributes: AttributeSet?) : View(context, attributes) {
    var timeline = Timeline()
        set(value) {
            field = value
            spoken.offer { words(value) }
            invalidate()
        }

    private val step = Paint().apply { color = context.getColor(R.color.step) }
    private val event = Paint().apply { color = context.getColor(R.color.accent) }
    private val grid = Paint().apply { color = context.getColor(R.color.track) }
    private val text = TextPaint(Paint.ANTI_ALIAS_FLAG).apply {
        color = context.getColor(R.color.ink)
        textSize = TypedValue.applyDimension(TypedValue.COMPLEX_UNIT_SP, TEXT_SP, resources.displayMetrics)
    }
    private val dp = resources.displayMetrics.density
    private val line = text.fontSpacing
    private val row = line + LANE_DP * dp
    private val spoken = Newest<String>(
        SPOKEN_EVERY_MS,
        now = SystemClock::uptimeMillis,
        later = { ms, task -> postDelayed(task, ms) },
        passOn = { contentDescription = it },
    )

    override fun onMeasure(widthMeasureSpec: Int, heightMeasureSpec: Int) = setMeasuredDimension(
        getDefaultSize(suggestedMinimumWidth, widthMeasureSpec),
        resolveSize((ROWS * row + line).toInt() + 1, heightMeasureSpec),
    )

    override fun onDraw(canvas: Canvas) {
        super.onDraw(canvas)
        drawAxis(canvas)
        val tops = timeline.rows(ROWS).withIndex().associate { it.value to it.index * row }
        for (part in timeline.steps) {
            for ((index, score) in part.scores) {
                val top = tops[index] ?: continue
                step.alpha = (score.coerceIn(0f, 1f) * OPAQUE).toInt()
                canvas.drawRect(x(part.start), top + line, x(part.end), top + row - 2 * EVENT_DP * dp, step)
            }
        }
        for (part in timeline.events) tops[part.index]?.let { drawEvent(canvas, part.start, part.end, it) }
        for ((index, start) in timeline.running) tops[index]?.let { drawEvent(canvas, start, timeline.now, it) }
        for ((index, top) in tops) {
            val name = TextUtils.ellipsize(timeline.labels[index], text, width.toFloat(), TextUtils.TruncateAt.END)
            text.textAlign = Paint.Align.LEFT
            canvas.drawText(name, 0, name.length, 0f, top - text.ascent(), text)
        }
    }

    private fun drawEvent(canvas: Canvas, start: Double, end: Double, top: Float) {
        val right = maxOf(x(end), x(start) + dp) // a short event of a long recording is still a dot
        canvas.drawRect(x(start), top + row - 2 * EVENT_DP * dp, right, top + row - EVENT_DP * dp, event)
    }

    private fun drawAxis(canvas: Canvas) {
        val bottom = ROWS * row
        val widest = text.measureText(Timeline.clock(timeline.end)) * 2
        val marks = timeline.marks((width / widest).toInt())
        for (seconds in marks) {
            val clock = Timeline.clock(seconds)
            val half = text.measureText(clock) / 2
            canvas.drawRect(x(seconds), 0f, x(seconds) + dp, bottom, grid)
            text.textAlign = Paint.Align.CENTER
            val centre = x(seconds).coerceIn(half, maxOf(half, width - half))
            canvas.drawText(clock, centre, bottom - text.ascent(), text)
        }
    }

    private fun x(seconds: Double): Float = (width * timeline.place(seconds)).toFloat()

    private fun words(timeline: Timeline): String {
        val newest = timeline.events.lastOrNull() ?: return context.getString(R.string.no_events)
        val count = timeline.events.size
        return resources.getQuantityString(R.plurals.events, count, count, timeline.labels[newest.index])
    }

    private companion object {
        const val ROWS = 6
        const val TEXT_SP = 14f
        const val LANE_DP = 14f
        const val EVENT_DP = 4f
        const val OPAQUE = 255
        const val SPOKEN_EVERY_MS = 5000L
    }
}
