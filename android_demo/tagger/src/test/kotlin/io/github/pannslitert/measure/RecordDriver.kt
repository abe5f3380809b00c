package io.github.pannslitert.measure

import java.io.File

/**
 * Reads device records and writes them again: tests/test_records.py.
 *
 * Arguments: a record's file and the file to write, as often as you like.
 */
fun main(args: Array<String>) {
    for ((from, to) in args.toList().chunked(2)) File(to).writeText(DeviceRecord.read(File(from)).toJson())
}
