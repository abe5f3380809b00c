package io.github.pannslitert.demo

import android.os.SystemClock
import android.view.LayoutInflater
import android.view.View
import android.widget.LinearLayout
import android.widget.ProgressBar
import android.widget.TextView
import io.github.pannslitert.tagging.Tag

/**
 * Shows the highest tags with their scores as bars from 0 to 1. A screen reader gets the first three of them.
 *
 * @param list an empty vertical layout, which gets a row for each tag
 */
class TagBars(private val list: LinearLayout) {
    private val context = list.context
    private val rows = List(ROWS) { LayoutInflater.from(context).inflate(R.layout.bar, list, false) }
    private val spoken = Newest<String>(
        SPOKEN_EVERY_MS,
        now = SystemClock::uptimeMillis,
        later = { ms, task -> list.postDelayed(task, ms) },
        passOn = { list.contentDescription = it },
    )

    /** The tags, highest first; only the first ones are shown. */
    var tags: List<Tag> = emptyList()
        set(value) {
            if (value == field) return
            field = value
            for ((i, row) in rows.withIndex()) show(row, value.getOrNull(i))
            spoken.offer { value.take(SPOKEN).joinToString { tag(it) } }
        }

    init {
        for (row in rows) {
            row.importantForAccessibility = View.IMPORTANT_FOR_ACCESSIBILITY_NO_HIDE_DESCENDANTS // the list speaks
            list.addView(row)
            show(row, null)
        }
    }

    private fun show(row: View, tag: Tag?) {
        row.visibility = if (tag == null) View.GONE else View.VISIBLE
        if (tag == null) return
        row.findViewById<TextView>(R.id.label).text = tag.label
        row.findViewById<TextView>(R.id.score).text = context.getString(R.string.score, tag.score)
        with(row.findViewById<ProgressBar>(R.id.bar)) { progress = (tag.score * max).toInt() }
    }

    private fun tag(tag: Tag): String = context.getString(R.string.spoken_tag, tag.label, (tag.score * PERCENT).toInt())

    companion object {
        /** Number of tags that fit. */
        const val ROWS = 5
        private const val SPOKEN = 3
        private const val SPOKEN_EVERY_MS = 5000L
        private const val PERCENT = 100
    }
}
