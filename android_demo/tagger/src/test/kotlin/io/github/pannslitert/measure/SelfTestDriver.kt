package io.github.pannslitert.measure

import com.google.gson.Gson
import com.google.gson.JsonParser
import io.github.pannslitert.floatArray
import java.io.File

/**
 * Compares probabilities and prints the comparisons as JSON, for tests/convert/test_selftest.py.
 *
 * Argument: a JSON file with a list of cases. A case has got, reference, and the gate's max_abs, corr and top5.
 */
fun main(args: Array<String>) {
    val cases = JsonParser.parseString(File(args[0]).readText()).asJsonArray.map { it.asJsonObject }
    val comparisons = cases.map { case ->
        val gate = SelfTest.Gate(case["max_abs"].asDouble, case["corr"].asDouble, case["top5"].asBoolean)
        SelfTest.compare(floatArray(case["got"].asJsonArray), floatArray(case["reference"].asJsonArray), gate)
    }
    println(Gson().toJson(comparisons))
}
