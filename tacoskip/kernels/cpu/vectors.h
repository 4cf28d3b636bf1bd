/* What the networks' kernels share: elementwise functions of vectors, a softmax, scratch memory. */

#ifndef TACOSKIP_VECTORS
#define TACOSKIP_VECTORS

#include <math.h>

#include "common.h"
#include "elementwise.h"

#define VECTOR(at) (*(vector *)(at))

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

INLINE float sum_of(vector x) {
    float sum = 0.0f;
    for (int64_t i = 0; i < LANES; i++) sum += x[i];
    return sum;
}

INLINE void add(int64_t count, float *restrict to, const float *from) {
#pragma GCC ivdep
    for (int64_t j = 0; j < count; j++) to[j] += from[j];
}

INLINE int64_t whole(int64_t n, int64_t of) { return (n + of - 1) / of * of; }

/* Weights (S) of logits (S), which lie in whole vectors and are lost. */
static void softmax(int64_t symbols, float *restrict logits, float *restrict weights) {
    float most = -INFINITY, sum = 0.0f;
    for (int64_t s = symbols; s < whole(symbols, LANES); s++) logits[s] = -INFINITY;
    for (int64_t s = 0; s < symbols; s++) most = logits[s] > most ? logits[s] : most;
    for (int64_t s = 0; s < symbols; s += LANES) {
        const vector x = VECTOR(logits + s) - most;
        VECTOR(logits + s) = chosen(x < all(-87.0f), all(0.0f), exponential(x));
    }
    for (int64_t s = 0; s < symbols; s++) sum += logits[s];
    for (int64_t s = 0; s < symbols; s++) weights[s] = logits[s] / sum;
}

/* The next numbers of a thread's own memory. */
static void *piece(float **own, int64_t floats) {
    *own += floats;
    return *own - floats;
}

#endif
