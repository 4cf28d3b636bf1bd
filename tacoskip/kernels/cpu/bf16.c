/* The networks' kernels in bfloat16, for processors that multiply in it (AVX512_BF16).
 *
 * Exponentials are good to 3e-6, a thousandth of bfloat16's rounding.
 */

#include "vectors.h"

#if defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && \
    defined(__AVX512VL__)

#include <immintrin.h>

int64_t bf16_available(void) { return 1; }

typedef uint16_t stored, gate;
typedef __m512bh group;

#define GROUP 2
#define EXPORT(name) bf16_##name

INLINE vector load(const stored *at) {
    const __m512i bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)at));
    return (vector)_mm512_slli_epi32(bits, 16);
}

INLINE __m256i narrow(vector x) { return (__m256i)_mm512_cvtneps_pbh((__m512)x); }
INLINE void store(stored *at, vector x) { _mm256_storeu_si256((void *)at, narrow(x)); }

/* Gates lie in half precision, whose rounding is finer and whose range is enough for them. */
INLINE vector load_gate(const gate *at) {
    return (vector)_mm512_cvtph_ps(_mm256_loadu_si256((const void *)at));
}

INLINE void store_gate(gate *at, vector x) {
    _mm256_storeu_si256((void *)at, _mm512_cvtps_ph((__m512)x, _MM_FROUND_TO_NEAREST_INT));
}

/* 1 / (1 + e^x); NaN stays NaN. */
INLINE vector sigmoid_of_minus(vector x) {
    const __m512 least = _mm512_set1_ps(-126.0f), most = _mm512_set1_ps(126.0f);
    /* Of two of which one is NaN these give the second. */
    const __m512 y = _mm512_max_ps(least, _mm512_min_ps(most, (__m512)(x * 1.44269504f)));
    const __m512 n = _mm512_roundscale_ps(y, 0);
    const vector r = (vector)y - (vector)n;
    vector p = r * 1.33335581e-3f + 9.61812911e-3f;
    p = r * p + 5.55041087e-2f;
    p = r * p + 2.40226507e-1f;
    p = r * p + 6.93147181e-1f;
    p = r * p + 1.0f;
    const vector d = (vector)_mm512_scalef_ps((__m512)p, n) + 1.0f;
    const vector q = (vector)_mm512_rcp14_ps((__m512)d);
    return q * (2.0f - d * q);
}

INLINE vector sigmoid(vector x) { return sigmoid_of_minus(-x); }
INLINE vector hyperbolic(vector x) { return 1.0f - 2.0f * sigmoid_of_minus(x + x); }

INLINE group load_group(const stored *at) { return (group)_mm512_loadu_si512(at); }

INLINE group repeat(const stored *at) {
    int32_t pair;
    memcpy(&pair, at, 4);
    return (group)_mm512_set1_epi32(pair);
}

INLINE vector multiply_add(group a, group b, vector sum) {
    return (vector)_mm512_dpbf16_ps((__m512)sum, a, b);
}

/* Two rows of a vector into packed weights, where pairs of rows lie side by side. */
INLINE void store_pair(stored *to, int64_t panel, vector first, vector second) {
    const __m512i low = _mm512_cvtepu16_epi32(narrow(first));
    const __m512i high = _mm512_slli_epi32(_mm512_cvtepu16_epi32(narrow(second)), 16);
    (void)panel;
    _mm512_storeu_si512(to, _mm512_or_si512(low, high));
}

#include "kernels.h"

#else

int64_t bf16_available(void) { return 0; }

#endif
