package io.github.pannslitert.frontend

/**
 * Natural logarithm of several numbers at once, with an absolute error of at most 1e-12. The numbers must be positive,
 * normal and finite.
 *
 * With x = m·2^e and m between √½ and √2, ln x = e·ln 2 + ln m. With s = (m − 1) / (m + 1), ln m = 2·artanh(s). The
 * series of artanh is used up to s^15; s is within ±0.172. There are two loops, one to split the numbers and one to
 * compute the logarithms, because a JIT compiler vectorises the second one.
 *
 * @param lanes how many numbers
 */
internal class LaneLog(lanes: Int) {
    private val exponent = DoubleArray(lanes)

    /** Replaces every element of [x] by its natural logarithm. */
    fun ln(x: DoubleArray) {
        takeApart(x, exponent)
        logarithms(x, exponent)
    }

    private fun takeApart(x: DoubleArray, exponent: DoubleArray) {
        for (l in x.indices) {
            val bits = x[l].toRawBits()
            val e = (bits - SQRT_HALF_BITS) shr 52
            exponent[l] = e.toDouble()
            x[l] = Double.fromBits(bits - (e shl 52))
        }
    }

    private fun logarithms(mantissa: DoubleArray, exponent: DoubleArray) {
        for (l in mantissa.indices) {
            val m = mantissa[l]
            val s = (m - 1.0) / (m + 1.0)
            val z = s * s
            val series = 1.0 + z * (C3 + z * (C5 + z * (C7 + z * (C9 + z * (C11 + z * (C13 + z * C15))))))
            mantissa[l] = exponent[l] * LN_2 + 2.0 * s * series
        }
    }

    private companion object {
        const val LN_2 = 0.6931471805599453
        const val SQRT_HALF_BITS = 0x3fe6a09e667f3bcdL
        const val C3 = 1.0 / 3.0
        const val C5 = 1.0 / 5.0
        const val C7 = 1.0 / 7.0
        const val C9 = 1.0 / 9.0
        const val C11 = 1.0 / 11.0
        const val C13 = 1.0 / 13.0
        const val C15 = 1.0 / 15.0
    }
}
