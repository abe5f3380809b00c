package io.github.pannslitert.demo

import android.content.Context
import android.graphics.Canvas
import android.graphics.Paint
import android.util.AttributeSet
import android.view.View
import io.github.pannslitert.tagging.Tag

/** Shows the highest tags as bars from 0 to 1, with their names. */
class BarsView(context: Context, attributes: AttributeSet?) : View(context, attributes) {
    var tags: List<Tag> = emptyList()
        set(value) {
            field = value
            contentDescription = value.joinToString { context.getString(R.string.bar, it.label, it.score) }
            invalidate()
        }

    private val bar = Paint().apply { color = BLUE }
    private val text = Paint(Paint.ANTI_ALIAS_FLAG)

    override fun onDraw(canvas: Canvas) {
        super.onDraw(canvas)
        val row = height.toFloat() / ROWS
        text.textSize = row * 0.5f
        for ((i, tag) in tags.take(ROWS).withIndex()) {
            canvas.drawRect(0f, row * (i + 0.1f), width * tag.score, row * (i + 0.9f), bar)
            canvas.drawText(context.getString(R.string.bar, tag.label, tag.score), row * 0.2f, row * (i + 0.68f), text)
        }
    }

    private companion object {
        const val ROWS = 5
        const val BLUE = 0xFF90CAF9.toInt()
    }
}
