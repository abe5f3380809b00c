package io.github.pannslitert.measure

import java.io.File

/**
 * Reads device records and writes them again, for tests/measure/test_records.py.
 *
 * Arguments: pairs of a record's file and the file to write.
 */
fun main(args: Array<String>) {
    for ((from, to) in args.toList().chunked(2)) File(to).writeText(DeviceRecord.read(File(from)).toJson())
}
