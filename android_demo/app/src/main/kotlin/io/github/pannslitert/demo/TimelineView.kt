package io.github.pannslitert.demo

import android.content.Context
import android.graphics.Canvas
import android.graphics.Paint
import android.util.AttributeSet
import android.view.View

/**
 * Shows the last minute, with the present at the right. It has one row for each class that may be present, the class
 * with the highest score on top. Pale bars show the probability of each step, dark bars the events that have ended.
 */
class TimelineView(context: Context, attributes: AttributeSet?) : View(context, attributes) {
    var timeline = Timeline()
        set(value) {
            field = value
            contentDescription = value.events.joinToString {
                context.getString(R.string.event, value.labels[it.index], it.start, it.end)
            }
            invalidate()
        }

    private val density = resources.displayMetrics.density
    private val pale = Paint().apply { color = BLUE }
    private val dark = Paint().apply { color = BLUE }
    private val text = Paint(Paint.ANTI_ALIAS_FLAG).apply { textSize = TEXT_DP * density }

    override fun onDraw(canvas: Canvas) {
        super.onDraw(canvas)
        val row = ROW_DP * density
        val rows = rows().take((height / row).toInt()).withIndex().associate { it.value to it.index * row }
        for (step in timeline.steps) {
            for ((index, score) in step.scores) {
                val top = rows[index] ?: continue
                pale.alpha = (score * OPAQUE / 2).toInt()
                canvas.drawRect(x(step.start), top, x(step.end), top + row * 0.7f, pale)
            }
        }
        for (event in timeline.events) {
            val top = rows[event.index] ?: continue
            canvas.drawRect(x(event.start), top + row * 0.7f, x(event.end), top + row * 0.9f, dark)
        }
        for ((index, top) in rows) canvas.drawText(timeline.labels[index], 0f, top + row * 0.55f, text)
    }

    /** The class indices, sorted by their highest score. */
    private fun rows(): List<Int> {
        val best = mutableMapOf<Int, Float>()
        for (step in timeline.steps) for ((index, score) in step.scores) best[index] = maxOf(score, best[index] ?: 0f)
        return best.keys.sortedByDescending { best[it] }
    }

    private fun x(seconds: Double): Float = (width * (1.0 - (timeline.now - seconds) / Timeline.SPAN)).toFloat()

    private companion object {
        const val ROW_DP = 24f
        const val TEXT_DP = 13f
        const val OPAQUE = 255
        const val BLUE = 0xFF1565C0.toInt()
    }
}
