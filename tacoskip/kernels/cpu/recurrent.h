/* What recurrent layers share, in whichever precision: elementwise functions, a softmax, memory. */

#ifndef TACOSKIP_RECURRENT
#define TACOSKIP_RECURRENT

#include <math.h>
#include <string.h>

#include "common.h"

/* ---- elementwise ---- */

/* e^x: 2^n by its bits, the rest by its series (Taylor, degree 7). NaN stays NaN. */
INLINE float exponential(float x) {
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to a whole number */
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float shifted = x * 1.44269504088896341f + magic;
    float n = shifted - magic;
    float r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    float p = 1.0f / 5040.0f;
    p = p * r + 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    int32_t bits;
    memcpy(&bits, &shifted, 4);
    bits = (int32_t)((uint32_t)(bits - 0x4B400000 + 127) << 23);
    float power;
    memcpy(&power, &bits, 4);
    return p * power;
}

INLINE float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

INLINE float hyperbolic(float x) { return 1.0f - 2.0f / (1.0f + exponential(2.0f * x)); }

INLINE void add(int64_t count, float *restrict to, const float *from) {
#pragma GCC ivdep
    for (int64_t j = 0; j < count; j++) to[j] += from[j];
}

/* A reach of less than this is none, and its logarithm that of this. */
#define LEAST 1e-12f

/* How near each symbol is to the last weights: where they lie, or one before. */
static float reach_of(const float *last, int64_t s) { return last[s] + (s ? last[s - 1] : 0.0f); }

/* Weights (S) of an item by its logits, which are lost. */
static void softmax(int64_t symbols, float *restrict logits, float *restrict weights) {
    float most = -INFINITY, sum = 0.0f;
    for (int64_t s = 0; s < symbols; s++) most = logits[s] > most ? logits[s] : most;
#pragma GCC ivdep
    for (int64_t s = 0; s < symbols; s++) {
        const float x = logits[s] - most;
        weights[s] = x < -87.0f ? 0.0f : exponential(x);
    }
    for (int64_t s = 0; s < symbols; s++) sum += weights[s];
    for (int64_t s = 0; s < symbols; s++) weights[s] /= sum;
}

/* ---- memory ---- */

/* What a thread works in: pieces of one block, which is there as a whole or not at all. */
typedef struct {
    float *block, *next;
} scratch;

static int reserve(scratch *s, int64_t floats) {
    s->block = s->next = calloc(floats, 4);
    return s->block != NULL;
}

static float *piece(scratch *s, int64_t floats) {
    s->next += floats;
    return s->next - floats;
}

#endif
