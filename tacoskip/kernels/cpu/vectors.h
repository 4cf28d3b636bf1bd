/* Elementwise functions of vectors. */

#include <math.h>

#include "common.h"

#define VECTOR(at) (*(vector *)(at))

typedef int32_t numbers __attribute__((vector_size(4 * LANES)));

INLINE vector chosen(numbers which, vector yes, vector no) {
    return (vector)((which & (numbers)yes) | (~which & (numbers)no));
}

INLINE vector all(float x) { return (vector){0} + x; }

INLINE vector clamp(vector x, float least, float most) {
    x = chosen(x < all(least), all(least), x);
    return chosen(x > all(most), all(most), x);
}

/* e^x: 2^n by its bits, the rest by its series (Taylor, degree 7). NaN stays NaN. */
INLINE vector exponential(vector x) {
    const vector magic = all(12582912.0f); /* 1.5 * 2^23: adding it rounds to a whole number */
    x = clamp(x, -87.0f, 88.0f);
    const vector shifted = x * 1.44269504088896341f + magic;
    const vector n = shifted - magic;
    vector r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    vector p = r * (1.0f / 5040.0f) + 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    return p * (vector)(((numbers)shifted - 0x4B400000 + 127) << 23);
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

INLINE float sum_of(vector x) {
    float sum = 0.0f;
    for (int64_t i = 0; i < LANES; i++) sum += x[i];
    return sum;
}

INLINE void add(int64_t count, float *restrict to, const float *from) {
#pragma GCC ivdep
    for (int64_t j = 0; j < count; j++) to[j] += from[j];
}
