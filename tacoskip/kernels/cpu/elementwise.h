/* Elementwise operations on vectors that several sources want; common.h first. */

typedef int32_t numbers __attribute__((vector_size(4 * LANES)));

INLINE vector chosen(numbers which, vector yes, vector no) {
    return (vector)((which & (numbers)yes) | (~which & (numbers)no));
}

/* 1 / sqrt(x): a first guess by its bits, and Newton's steps. Of 0 a number, of NaN nothing. */
INLINE vector inverse_root(vector x) {
    vector y = (vector)(0x5f3759df - ((numbers)x >> 1));
    const vector half = 0.5f * x;
    y = y * (1.5f - half * y * y);
    y = y * (1.5f - half * y * y);
    return y * (1.5f - half * y * y);
}

/* log10(x) of x > 0: its exponent, and a series in t fitted to (log(1 + t) - t + t^2 / 2) / t^3
 * where 1 + t is within a factor sqrt(2) of 1. What is not finite becomes NaN.
 */
INLINE vector logarithm(vector x) {
    const numbers exponent = ((numbers)x - 0x3f3504f3) >> 23;
    const vector t = (vector)((numbers)x - (exponent << 23)) - 1.0f;
    vector p = t * 0.0714975345f - 0.115712011f;
    p = p * t + 0.116615114f;
    p = p * t - 0.124110506f;
    p = p * t + 0.142499365f;
    p = p * t - 0.166684802f;
    p = p * t + 0.200007075f;
    p = p * t - 0.24999989f;
    p = p * t + 0.333333312f;
    p = t + t * t * (p * t - 0.5f);
    const vector e = __builtin_convertvector(exponent, vector);
    return p * 0.43429448f + e * 0.30102999f + (x - x);
}
