/* Passes and loops in bfloat16, for processors that multiply in it (AVX512_BF16).
 *
 * What is stored is bfloat16; states, sums and what lies between are float32. Exponentials are good
 * to 3e-6, a thousandth of bfloat16's rounding. Channels come in whole vectors of 16.
 *
 * B items, T frames, N = B T rows, C channels, D directions, H hidden channels. Arrays lie dense,
 * the last index fastest. No sum runs over the rows of two threads: their number changes no bit.
 */

#include "recurrent.h"

#if defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && \
    defined(__AVX512VL__)

#include <immintrin.h>

int64_t low(void) { return 1; }

typedef uint16_t bf16;
typedef __m512 wide;

INLINE wide load(const bf16 *at) {
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)at)), 16));
}

INLINE void store(bf16 *at, wide x) {
    _mm256_storeu_si256((void *)at, (__m256i)_mm512_cvtneps_pbh(x));
}

INLINE wide all(float x) { return _mm512_set1_ps(x); }

/* 1 / (1 + e^x); NaN stays NaN. */
INLINE wide logistic_of_minus(wide x) {
    wide y = _mm512_mul_ps(x, all(1.44269504f));
    /* Of two of which one is NaN these give the second. */
    y = _mm512_max_ps(all(-126.0f), _mm512_min_ps(all(126.0f), y));
    const wide n = _mm512_roundscale_ps(y, 0), r = _mm512_sub_ps(y, n);
    wide p = _mm512_fmadd_ps(r, all(1.33335581e-3f), all(9.61812911e-3f));
    p = _mm512_fmadd_ps(r, p, all(5.55041087e-2f));
    p = _mm512_fmadd_ps(r, p, all(2.40226507e-1f));
    p = _mm512_fmadd_ps(r, p, all(6.93147181e-1f));
    p = _mm512_fmadd_ps(r, p, all(1.0f));
    const wide d = _mm512_add_ps(_mm512_scalef_ps(p, n), all(1.0f)), q = _mm512_rcp14_ps(d);
    return _mm512_mul_ps(q, _mm512_fnmadd_ps(d, q, all(2.0f)));
}

INLINE wide logistic(wide x) { return logistic_of_minus(_mm512_sub_ps(_mm512_setzero_ps(), x)); }

INLINE wide tangent(wide x) {
    return _mm512_fnmadd_ps(all(2.0f), logistic_of_minus(_mm512_add_ps(x, x)), all(1.0f));
}

/* ---- batch norm ---- */

/* x (B, T, C) lies in parts, each (B, T, width), C = parts x width. */
typedef struct {
    int failed;
    int64_t items, frames, parts, width, block;
    const bf16 *const *x;
    const uint8_t *real; /* (B, T) */
    const float *slope, *shift; /* (C): y = x slope + shift */
    const float *centre;
    int64_t rectify, pool;
    float *sums;         /* (blocks, 2 C + 1): mean and squares about it, and rows counted */
    bf16 *out;           /* (B, T, C) */
    const bf16 *d_out;
    float *d_sums;       /* (B, 2 C): of the gradient, and of it times x - centre */
    const float *offset, *linear, *factor; /* (C) */
    bf16 *const *d_x;
} norm;

static void norm_sums_rows(void *given, int64_t direction, int64_t first, int64_t blocks) {
    const norm *g = given;
    const int64_t rows = g->items * g->frames, channels = g->parts * g->width;
    (void)direction;
    for (int64_t i = first; i < first + blocks; i++) {
        const int64_t start = i * g->block;
        const int64_t stop = start + g->block < rows ? start + g->block : rows;
        float *mean = g->sums + i * (2 * channels + 1), *square = mean + channels;
        int64_t count = 0;
        for (int64_t row = start; row < stop; row++) count += g->real[row] != 0;
        mean[2 * channels] = count;
        const wide share_of = all(count ? 1.0f / count : 0.0f);
        for (int64_t part = 0; part < g->parts; part++) {
            for (int64_t c = 0; c < g->width; c += 16, mean += 16, square += 16) {
                wide sum = _mm512_setzero_ps(), squares = sum;
                for (int64_t row = start; row < stop; row++)
                    if (g->real[row])
                        sum = _mm512_add_ps(sum, load(g->x[part] + row * g->width + c));
                sum = _mm512_mul_ps(sum, share_of);
                for (int64_t row = start; row < stop; row++)
                    if (g->real[row]) {
                        const wide x = _mm512_sub_ps(load(g->x[part] + row * g->width + c), sum);
                        squares = _mm512_fmadd_ps(x, x, squares);
                    }
                _mm512_storeu_ps(mean, sum);
                _mm512_storeu_ps(square, squares);
            }
        }
    }
}

/* What the norm makes of 16 channels of a row. */
INLINE wide normal(const norm *g, int64_t row, int64_t part, int64_t c) {
    if (!g->real[row]) return _mm512_setzero_ps();
    const int64_t at = part * g->width + c;
    const wide y = _mm512_fmadd_ps(load(g->x[part] + row * g->width + c),
                                   _mm512_loadu_ps(g->slope + at), _mm512_loadu_ps(g->shift + at));
    /* NaN stays NaN. */
    return g->rectify ? _mm512_max_ps(_mm512_setzero_ps(), y) : y;
}

static void norm_apply_rows(void *given, int64_t direction, int64_t first, int64_t items) {
    const norm *g = given;
    const int64_t channels = g->parts * g->width;
    (void)direction;
    for (int64_t item = first; item < first + items; item++)
        for (int64_t t = 0; t < g->frames; t++) {
            const int64_t row = item * g->frames + t;
            bf16 *out = g->out + row * channels;
            for (int64_t part = 0; part < g->parts; part++)
                for (int64_t c = 0; c < g->width; c += 16, out += 16) {
                    wide y = normal(g, row, part, c);
                    if (g->pool && t + 1 < g->frames)
                        y = _mm512_max_ps(normal(g, row + 1, part, c), y);
                    store(out, y);
                }
        }
}

/* Go through an item: with sums, add up; else write the gradient of x. carry (C): what the frame
 * before has given to this one.
 */
INLINE void norm_back_item(const norm *g, int64_t item, float *carry, const int write) {
    const int64_t channels = g->parts * g->width;
    const wide zero = _mm512_setzero_ps();
    float *sums = g->d_sums + item * 2 * channels;
    memset(carry, 0, 4 * channels);
    if (!write) memset(sums, 0, 8 * channels);
    for (int64_t t = 0; t < g->frames; t++) {
        const int64_t row = item * g->frames + t;
        const int real = g->real[row];
        const bf16 *d_out = g->d_out + row * channels;
        for (int64_t part = 0; part < g->parts; part++) {
            for (int64_t c = 0; c < g->width; c += 16) {
                const int64_t at = part * g->width + c;
                wide d = real ? load(d_out + at) : zero;
                if (g->rectify) {
                    const wide y = normal(g, row, part, c);
                    if (g->pool && t + 1 < g->frames) {
                        const wide next = normal(g, row + 1, part, c);
                        const __mmask16 own = _mm512_cmp_ps_mask(y, next, _CMP_GE_OQ);
                        const wide before = _mm512_loadu_ps(carry + at);
                        _mm512_storeu_ps(carry + at, _mm512_mask_mov_ps(d, own, zero));
                        d = _mm512_add_ps(_mm512_maskz_mov_ps(own, d), before);
                    } else if (g->pool) {
                        d = _mm512_add_ps(d, _mm512_loadu_ps(carry + at));
                    }
                    /* Where y is NaN, its gradient goes on. */
                    d = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(y, zero, _CMP_NLE_UQ), d);
                }
                if (!real) {
                    if (write) store(g->d_x[part] + row * g->width + c, zero);
                    continue;
                }
                const wide x = load(g->x[part] + row * g->width + c);
                if (write) {
                    d = _mm512_sub_ps(d, _mm512_loadu_ps(g->offset + at));
                    d = _mm512_fmadd_ps(x, _mm512_loadu_ps(g->linear + at), d);
                    d = _mm512_mul_ps(d, _mm512_loadu_ps(g->factor + at));
                    store(g->d_x[part] + row * g->width + c, d);
                } else {
                    const wide about = _mm512_sub_ps(x, _mm512_loadu_ps(g->centre + at));
                    _mm512_storeu_ps(sums + at, _mm512_add_ps(_mm512_loadu_ps(sums + at), d));
                    _mm512_storeu_ps(
                        sums + channels + at,
                        _mm512_fmadd_ps(d, about, _mm512_loadu_ps(sums + channels + at)));
                }
            }
        }
    }
}

static void norm_back_rows(void *given, int64_t direction, int64_t first, int64_t items) {
    norm *g = given;
    (void)direction;
    scratch own;
    if (!reserve(&own, g->parts * g->width)) {
        g->failed = 1;
        return;
    }
    for (int64_t item = first; item < first + items; item++) {
        if (g->d_x)
            norm_back_item(g, item, own.block, 1);
        else
            norm_back_item(g, item, own.block, 0);
    }
    free(own.block);
}

/* Means and squares of blocks of rows. */
int norm_sums(norm *g, int64_t threads) {
    share(norm_sums_rows, g, 1, (g->items * g->frames + g->block - 1) / g->block, 1, threads);
    return 1;
}

int norm_apply(norm *g, int64_t threads) {
    share(norm_apply_rows, g, 1, g->items, 1, threads);
    return 1;
}

/* Sums of the gradient, or the gradient of x where there is a place for it. */
int norm_back(norm *g, int64_t threads) {
    share(norm_back_rows, g, 1, g->items, 1, threads);
    return !g->failed;
}

/* ---- highway ---- */

/* y = x + s (max(f, 0) - x), s the logistic of g; what it is made of (N, 2 C): f, g. */
typedef struct {
    int64_t channels;
    const bf16 *x, *of;
    const uint8_t *real;
    bf16 *out;
    const bf16 *d_out;
    bf16 *d_of, *d_x; /* d_x: of x, directly */
} highway;

static void highway_rows(void *given, int64_t direction, int64_t first, int64_t rows) {
    const highway *g = given;
    const int64_t c = g->channels;
    (void)direction;
    for (int64_t row = first; row < first + rows; row++) {
        if (!g->real[row]) {
            memset(g->out + row * c, 0, 2 * c);
            continue;
        }
        const bf16 *x = g->x + row * c, *of = g->of + 2 * row * c;
        for (int64_t j = 0; j < c; j += 16) {
            const wide f = _mm512_max_ps(_mm512_setzero_ps(), load(of + j)), from = load(x + j);
            const wide s = logistic(load(of + c + j));
            store(g->out + row * c + j, _mm512_fmadd_ps(s, _mm512_sub_ps(f, from), from));
        }
    }
}

static void highway_back_rows(void *given, int64_t direction, int64_t first, int64_t rows) {
    const highway *g = given;
    const int64_t c = g->channels;
    const wide one = all(1.0f), zero = _mm512_setzero_ps();
    (void)direction;
    for (int64_t row = first; row < first + rows; row++) {
        bf16 *d_x = g->d_x + row * c, *d_of = g->d_of + 2 * row * c;
        if (!g->real[row]) {
            memset(d_x, 0, 2 * c);
            memset(d_of, 0, 4 * c);
            continue;
        }
        const bf16 *x = g->x + row * c, *of = g->of + 2 * row * c, *d_out = g->d_out + row * c;
        for (int64_t j = 0; j < c; j += 16) {
            const wide f = _mm512_max_ps(zero, load(of + j)), from = load(x + j);
            const wide s = logistic(load(of + c + j)), d = load(d_out + j);
            const wide through = _mm512_mul_ps(d, s), closed = _mm512_sub_ps(one, s);
            store(d_of + j, _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(f, zero, _CMP_NLE_UQ), through));
            store(d_of + c + j,
                  _mm512_mul_ps(_mm512_mul_ps(through, closed), _mm512_sub_ps(f, from)));
            store(d_x + j, _mm512_mul_ps(d, closed));
        }
    }
}

int highway_forward(highway *g, int64_t rows, int64_t threads) {
    share(highway_rows, g, 1, rows, 64, threads);
    return 1;
}

int highway_backward(highway *g, int64_t rows, int64_t threads) {
    share(highway_back_rows, g, 1, rows, 64, threads);
    return 1;
}

/* ---- dropout ---- */

/* max(x, 0) scale where the random number of 16 bits is below `below`, else 0; with d_out, the
 * gradient: d_out scale where x, then what came out, is above 0.
 */
typedef struct {
    int64_t below;
    float scale;
    const bf16 *x;
    const int16_t *random;
    const bf16 *d_out;
    bf16 *out;
} dropout;

static void dropout_rows(void *given, int64_t direction, int64_t first, int64_t blocks) {
    const dropout *g = given;
    const wide zero = _mm512_setzero_ps(), scale = all(g->scale);
    const __m256i below = _mm256_set1_epi16((int16_t)g->below);
    (void)direction;
    for (int64_t at = 16 * first; at < 16 * (first + blocks); at += 16) {
        const wide x = _mm512_max_ps(zero, load(g->x + at));
        const __mmask16 kept =
            g->d_out ? _mm512_cmp_ps_mask(x, zero, _CMP_NLE_UQ)
                     : _mm256_cmplt_epi16_mask(
                           _mm256_loadu_si256((const void *)(g->random + at)), below);
        const wide y = g->d_out ? load(g->d_out + at) : x;
        store(g->out + at, _mm512_maskz_mul_ps(kept, y, scale));
    }
}

int low_dropout(dropout *g, int64_t blocks, int64_t threads) {
    share(dropout_rows, g, 1, blocks, 1024, threads);
    return 1;
}

/* ---- absolute difference ---- */

/* Of B items of `size` numbers each, of which the first `counts` are real: summed |x - target|, and
 * where each is above and below, of which the gradient is made.
 */
typedef struct {
    int64_t items, size;
    const int64_t *counts; /* (B) */
    const bf16 *x;
    const float *target;
    uint16_t *signs; /* (B, size / 16 rounded up, 2): above, below */
    double *sums;    /* (B) */
    float slope;
    bf16 *d_x;
} distance;

INLINE __mmask16 first_of(int64_t count) {
    return count >= 16 ? 0xFFFF : (__mmask16)((1u << count) - 1);
}

static void distance_rows(void *given, int64_t direction, int64_t first, int64_t items) {
    const distance *g = given;
    (void)direction;
    for (int64_t item = first; item < first + items; item++) {
        const int64_t groups = (g->size + 15) / 16, count = g->counts[item];
        const bf16 *x = g->x + item * g->size;
        const float *target = g->target + item * g->size;
        uint16_t *signs = g->signs + item * groups * 2;
        double sum = 0.0;
        memset(signs, 0, 4 * groups);
        for (int64_t start = 0; start < count; start += 4096) {
            const int64_t stop = start + 4096 < count ? start + 4096 : count;
            wide part = _mm512_setzero_ps();
            for (int64_t i = start; i < stop; i += 16) {
                const __mmask16 real = first_of(stop - i);
                const __m256i bits = _mm256_maskz_loadu_epi16(real, x + i);
                const wide own =
                    _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
                const wide d = _mm512_sub_ps(own, _mm512_maskz_loadu_ps(real, target + i));
                part = _mm512_add_ps(part, _mm512_abs_ps(d));
                signs[i / 8] = _mm512_cmp_ps_mask(d, _mm512_setzero_ps(), _CMP_GT_OQ);
                signs[i / 8 + 1] = _mm512_cmp_ps_mask(d, _mm512_setzero_ps(), _CMP_LT_OQ);
            }
            sum += _mm512_reduce_add_ps(part);
        }
        g->sums[item] = sum;
    }
}

static void distance_back_rows(void *given, int64_t direction, int64_t first, int64_t items) {
    const distance *g = given;
    const wide up = all(g->slope), down = all(-g->slope);
    (void)direction;
    for (int64_t item = first; item < first + items; item++) {
        const uint16_t *signs = g->signs + item * ((g->size + 15) / 16) * 2;
        bf16 *d_x = g->d_x + item * g->size;
        for (int64_t i = 0; i < g->size; i += 16) {
            const wide d = _mm512_mask_mov_ps(_mm512_maskz_mov_ps(signs[i / 8], up),
                                              signs[i / 8 + 1], down);
            _mm256_mask_storeu_epi16(d_x + i, first_of(g->size - i),
                                     (__m256i)_mm512_cvtneps_pbh(d));
        }
    }
}

int distance_forward(distance *g, int64_t threads) {
    share(distance_rows, g, 1, g->items, 1, threads);
    return 1;
}

int distance_backward(distance *g, int64_t threads) {
    share(distance_back_rows, g, 1, g->items, 1, threads);
    return 1;
}

/* ---- products ---- */

/* Rows of a block and columns of a panel; weights (K, N) lie as (N / 32, K / 2, 32, 2). */
#define LOW_ROWS 8
#define LOW_PANEL 32

INLINE void low_block(const int rows, const int more, const bf16 *a, int64_t stride, const bf16 *packed, int64_t k,
                      float *out, int64_t out_stride, int64_t columns) {
    wide sums[LOW_ROWS][2];
    for (int i = 0; i < rows; i++) {
        const float *from = out + i * out_stride;
        sums[i][0] = more ? _mm512_loadu_ps(from) : _mm512_setzero_ps();
        sums[i][1] = more && columns > 16 ? _mm512_loadu_ps(from + 16) : _mm512_setzero_ps();
    }
    for (int64_t at = 0; at < k; at += 2, packed += 2 * LOW_PANEL) {
        const __m512bh left = (__m512bh)_mm512_loadu_si512(packed);
        const __m512bh right = (__m512bh)_mm512_loadu_si512(packed + LOW_PANEL);
        for (int i = 0; i < rows; i++) {
            int32_t pair;
            memcpy(&pair, a + i * stride + at, 4);
            const __m512bh one = (__m512bh)_mm512_set1_epi32(pair);
            sums[i][0] = _mm512_dpbf16_ps(sums[i][0], one, left);
            sums[i][1] = _mm512_dpbf16_ps(sums[i][1], one, right);
        }
    }
    for (int i = 0; i < rows; i++) {
        _mm512_storeu_ps(out + i * out_stride, sums[i][0]);
        if (columns > 16) _mm512_storeu_ps(out + i * out_stride + 16, sums[i][1]);
    }
}

/* out (rows, N), or what is there with more, = a (rows, K) x packed weights (K, N); K is even, N
 * whole vectors.
 */
INLINE void low_product_of(const int more, int64_t rows, const bf16 *a, int64_t stride,
                           const bf16 *packed, int64_t k, int64_t n, float *out) {
    for (int64_t first = 0; first < n; first += LOW_PANEL, packed += k * LOW_PANEL) {
        int64_t row = 0;
#define BLOCK(count) \
    low_block(count, more, a + row * stride, stride, packed, k, out + row * n + first, n, n - first)
        for (; row + LOW_ROWS <= rows; row += LOW_ROWS) BLOCK(LOW_ROWS);
        switch (rows - row) {
        case 1: BLOCK(1); break;
        case 2: BLOCK(2); break;
        case 3: BLOCK(3); break;
        case 4: BLOCK(4); break;
        case 5: BLOCK(5); break;
        case 6: BLOCK(6); break;
        case 7: BLOCK(7); break;
        }
#undef BLOCK
    }
}

static void low_product(int64_t rows, const bf16 *a, int64_t stride, const bf16 *packed, int64_t k,
                        int64_t n, float *out) {
    low_product_of(0, rows, a, stride, packed, k, n, out);
}

static void low_product_more(int64_t rows, const bf16 *a, int64_t stride, const bf16 *packed,
                             int64_t k, int64_t n, float *out) {
    low_product_of(1, rows, a, stride, packed, k, n, out);
}

/* ---- GRU ---- */

/* Gates lie in half precision, whose rounding is finer and whose range is enough for them. */
INLINE wide load_gate(const uint16_t *at) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)at));
}

INLINE void store_gate(uint16_t *at, wide x) {
    _mm256_storeu_si256((void *)at, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}

/* 16 channels of a step. inputs (3 H): z, r, n with biases, and more of them unless NULL; of_state
 * (3 H): n, z, r of the state; last (H): it -> added (H), and gates (3 H): n, z, r, unless NULL.
 * Returns the state.
 */
INLINE wide low_cell(int64_t h, const bf16 *inputs, const float *more, const float *of_state,
                     const float *bias, const float *last, bf16 *added, uint16_t *gates) {
    wide to_z = load(inputs), to_r = load(inputs + h), to_n = load(inputs + 2 * h);
    if (more) {
        to_z = _mm512_add_ps(to_z, _mm512_loadu_ps(more));
        to_r = _mm512_add_ps(to_r, _mm512_loadu_ps(more + h));
        to_n = _mm512_add_ps(to_n, _mm512_loadu_ps(more + 2 * h));
    }
    const wide from_state = _mm512_add_ps(_mm512_loadu_ps(of_state), _mm512_loadu_ps(bias));
    const wide z = logistic(_mm512_add_ps(to_z, _mm512_loadu_ps(of_state + h)));
    const wide r = logistic(_mm512_add_ps(to_r, _mm512_loadu_ps(of_state + 2 * h)));
    const wide n = tangent(_mm512_fmadd_ps(r, from_state, to_n));
    if (gates) {
        store(added, from_state);
        store_gate(gates, n);
        store_gate(gates + h, z);
        store_gate(gates + 2 * h, r);
    }
    return _mm512_fmadd_ps(z, _mm512_sub_ps(_mm512_loadu_ps(last), n), n);
}

/* The gradient of 16 channels of a step: d of the state after it, last: the state before ->
 * of_state (3 H): n, z, r; of_gates (3 H): z, r, n of the input; both added to d_bias (4 H):
 * n of the state, z, r, n of the input. Returns what goes to the state before directly.
 */
INLINE wide low_cell_back(int64_t h, wide d, const uint16_t *gates, const bf16 *added, wide last,
                          bf16 *of_state, bf16 *of_gates, float *d_bias) {
    const wide one = all(1.0f), n = load_gate(gates), z = load_gate(gates + h);
    const wide r = load_gate(gates + 2 * h), closed = _mm512_mul_ps(d, _mm512_sub_ps(one, z));
    const wide d_n = _mm512_mul_ps(closed, _mm512_fnmadd_ps(n, n, one));
    const wide d_z = _mm512_mul_ps(_mm512_mul_ps(_mm512_sub_ps(last, n), z), closed);
    const wide of_n = _mm512_mul_ps(d_n, r);
    const wide d_r = _mm512_mul_ps(_mm512_mul_ps(of_n, load(added)), _mm512_sub_ps(one, r));
    store(of_state, of_n);
    store(of_state + h, d_z);
    store(of_state + 2 * h, d_r);
    store(of_gates, d_z);
    store(of_gates + h, d_r);
    store(of_gates + 2 * h, d_n);
    _mm512_storeu_ps(d_bias, _mm512_add_ps(_mm512_loadu_ps(d_bias), of_n));
    _mm512_storeu_ps(d_bias + h, _mm512_add_ps(_mm512_loadu_ps(d_bias + h), d_z));
    _mm512_storeu_ps(d_bias + 2 * h, _mm512_add_ps(_mm512_loadu_ps(d_bias + 2 * h), d_r));
    _mm512_storeu_ps(d_bias + 3 * h, _mm512_add_ps(_mm512_loadu_ps(d_bias + 3 * h), d_n));
    return _mm512_mul_ps(d, z);
}

typedef struct {
    int failed;
    int64_t items, frames, directions, channels;
    const int64_t *lengths; /* (B) */
    const bf16 *inputs;     /* (B, T, D, 3 H): z, r, n with their biases */
    const bf16 *weights;    /* D times packed: (H, 3 H): n, z, r; backward (3 H, H) */
    const float *bias;      /* (D, H) of the state's n */
    bf16 *out;              /* (B, T, D, H), zero beyond the lengths */
    bf16 *before, *added;   /* (D, B, T, H) and (B, T, D, H), or NULL */
    uint16_t *gates;        /* (B, T, D, 3 H) */
    const bf16 *d_out;      /* (B, T, D, H) */
    bf16 *of_state;         /* (D, B, T, 3 H): n, z, r */
    bf16 *of_gates;         /* (B, T, D, 3 H): z, r, n */
    float *d_bias;          /* (B, D, 4 H), zeros */
} low_gru;

/* The frame of a step: the second direction begins at the last. */
INLINE int64_t frame_of(const low_gru *g, int64_t direction, int64_t item, int64_t step) {
    const int64_t length = g->lengths[item];
    return direction && step < length ? length - 1 - step : step;
}

static void low_gru_rows(void *given, int64_t direction, int64_t first, int64_t rows) {
    low_gru *g = given;
    const int64_t h = g->channels, panels = (3 * h + LOW_PANEL - 1) / LOW_PANEL;
    const bf16 *weights = g->weights + direction * panels * LOW_PANEL * h;
    const float *bias = g->bias + direction * h;
    scratch own;
    if (!reserve(&own, rows * 5 * h)) {
        g->failed = 1;
        return;
    }
    float *of_state = piece(&own, rows * 3 * h), *state = piece(&own, rows * h);
    bf16 *shown = (bf16 *)piece(&own, rows * h);
    for (int64_t step = 0; step < g->frames; step++) {
        low_product(rows, shown, h, weights, h, 3 * h, of_state);
        for (int64_t i = 0; i < rows; i++) {
            const int64_t item = first + i, t = frame_of(g, direction, item, step);
            const int64_t at = (item * g->frames + t) * g->directions + direction;
            bf16 *before =
                g->before ? g->before + ((direction * g->items + item) * g->frames + t) * h : NULL;
            if (t >= g->lengths[item]) {
                memset(g->out + at * h, 0, 2 * h);
                if (before) memset(before, 0, 2 * h);
                continue;
            }
            if (before) memcpy(before, shown + i * h, 2 * h);
            for (int64_t j = 0; j < h; j += 16) {
                const wide next = low_cell(
                    h, g->inputs + at * 3 * h + j, NULL, of_state + i * 3 * h + j, bias + j,
                    state + i * h + j, g->added ? g->added + at * h + j : NULL,
                    g->gates ? g->gates + at * 3 * h + j : NULL);
                _mm512_storeu_ps(state + i * h + j, next);
                store(shown + i * h + j, next);
                store(g->out + at * h + j, next);
            }
        }
    }
    free(own.block);
}

static void low_gru_back_rows(void *given, int64_t direction, int64_t first, int64_t rows) {
    low_gru *g = given;
    const int64_t h = g->channels, panels = (h + LOW_PANEL - 1) / LOW_PANEL;
    const bf16 *weights = g->weights + direction * panels * LOW_PANEL * 3 * h;
    scratch own;
    if (!reserve(&own, rows * 4 * h)) {
        g->failed = 1;
        return;
    }
    float *d_h = piece(&own, rows * h), *keep = piece(&own, rows * h);
    bf16 *of_state = (bf16 *)piece(&own, rows * 2 * h);
    for (int64_t step = g->frames - 1; step >= 0; step--) {
        for (int64_t i = 0; i < rows; i++) {
            const int64_t item = first + i, t = frame_of(g, direction, item, step);
            const int64_t at = (item * g->frames + t) * g->directions + direction;
            const int64_t mine = (direction * g->items + item) * g->frames + t;
            if (t >= g->lengths[item]) {
                /* No gradient has come yet. */
                memset(g->of_state + mine * 3 * h, 0, 6 * h);
                memset(g->of_gates + at * 3 * h, 0, 6 * h);
                memset(of_state + i * 3 * h, 0, 6 * h);
                continue;
            }
            for (int64_t j = 0; j < h; j += 16) {
                const wide d = _mm512_add_ps(load(g->d_out + at * h + j),
                                             _mm512_loadu_ps(d_h + i * h + j));
                const wide kept = low_cell_back(
                    h, d, g->gates + at * 3 * h + j, g->added + at * h + j,
                    load(g->before + mine * h + j), of_state + i * 3 * h + j,
                    g->of_gates + at * 3 * h + j,
                    g->d_bias + (item * g->directions + direction) * 4 * h + j);
                _mm512_storeu_ps(keep + i * h + j, kept);
            }
            memcpy(g->of_state + mine * 3 * h, of_state + i * 3 * h, 6 * h);
        }
        low_product(rows, of_state, 3 * h, weights, 3 * h, h, d_h);
        add(rows * h, d_h, keep);
    }
    free(own.block);
}

int low_gru_forward(low_gru *g, int64_t threads) {
    share(low_gru_rows, g, g->directions, g->items, LOW_ROWS / 2, threads);
    return !g->failed;
}

int low_gru_backward(low_gru *g, int64_t threads) {
    share(low_gru_back_rows, g, g->directions, g->items, LOW_ROWS / 2, threads);
    return !g->failed;
}

/* ---- attention that is a sum of sigmoids of keys and query, and its GRU ---- */

/* 1 / (1 + e^-x) to 6e-5, for sums of many. */
INLINE wide logistic_of_many(wide x) {
    const wide y = _mm512_mul_ps(x, all(-1.44269504f));
    const wide n = _mm512_roundscale_ps(y, 0), r = _mm512_sub_ps(y, n);
    wide p = _mm512_fmadd_ps(r, all(9.61812911e-3f), all(5.55041087e-2f));
    p = _mm512_fmadd_ps(r, p, all(2.40226507e-1f));
    p = _mm512_fmadd_ps(r, p, all(6.93147181e-1f));
    p = _mm512_fmadd_ps(r, p, all(1.0f));
    return _mm512_rcp14_ps(_mm512_add_ps(_mm512_scalef_ps(p, n), all(1.0f)));
}

/* L steps, S symbols, A attention channels, M memory channels, F filters of the last weights and of
 * their sum, K symbols wide, or none: then K = F = 0.
 */
typedef struct {
    int failed;
    int64_t items, steps, symbols, memory_channels, channels, attention, width, filters;
    int64_t only_forward; /* a symbol is reached from itself and from the one before */
    const int64_t *lengths;  /* (B) of what can be read */
    const bf16 *inputs;      /* (B, L, 3 H): z, r, n with their biases */
    const bf16 *memory;      /* (B, S, M) */
    const bf16 *keys;        /* (B, S, A) */
    const bf16 *of_context;  /* packed (M, 3 H): z, r, n; backward (3 H, M) */
    const bf16 *of_state;    /* packed (H, 3 H): n, z, r; backward (3 H, H) */
    const bf16 *query;       /* packed (H, A); backward (A, H) */
    const float *state_bias; /* (H) of the state's n */
    const float *query_bias, *energy; /* (A) */
    const bf16 *of_past, *mix; /* packed (2 K, F), (F, A) */
    bf16 *hidden, *context;  /* (B, L, H), (B, L, M) */
    float *weights, *queries; /* (B, L, S), (B, L, A) */
    bf16 *added;             /* (B, L, H) */
    uint16_t *gates;         /* (B, L, 3 H) */
    bf16 *past;              /* (B, L, 2, S + K - 1) */
    const bf16 *past_back, *mix_back; /* packed (F, 2 K), and (A, F) with the factor energy */
    const bf16 *d_hidden, *d_context; /* (B, L, H), (B, L, M) */
    const float *d_weights;  /* (B, L, S) */
    bf16 *d_contexts;        /* (B, L, M): of the contexts, in all */
    float *d_keys;           /* (B, S, A), zeros; lacks the factor energy */
    bf16 *d_queries;         /* (B, L, A) */
    float *d_energy;         /* (B, A), zeros */
    bf16 *of_state_rows, *of_gates; /* (B, L, 3 H): n, z, r of the state; z, r, n of the input */
    float *d_bias;           /* (B, 4 H), zeros */
    float *d_past;           /* (B, 2 K, F), zeros: of the filters */
    float *d_mix;            /* (B, F, A), zeros; lacks the factor */
} low_reading;

/* Where an item's attention looks by its past: what the filters see (S, 2 K) and make (S, F), and
 * what that adds to each key (S, A).
 */
typedef struct {
    bf16 *seen, *places;
    float *made, *mixed;
} low_places;

static int64_t places_room(const low_reading *g) {
    return g->symbols * (g->width + 2 * g->filters + g->attention);
}

static low_places find_room(const low_reading *g, scratch *own) {
    return (low_places){(bf16 *)piece(own, g->symbols * g->width),
                        (bf16 *)piece(own, g->symbols * g->filters),
                        piece(own, g->symbols * g->filters),
                        piece(own, g->symbols * g->attention)};
}

static void look_back(const low_reading *g, const bf16 *past, int64_t length, low_places *to) {
    const int64_t k = g->width, f = g->filters, padded = g->symbols + k - 1;
    for (int64_t s = 0; s < length; s++) {
        memcpy(to->seen + s * 2 * k, past + s, 2 * k);
        memcpy(to->seen + s * 2 * k + k, past + padded + s, 2 * k);
    }
    low_product(length, to->seen, 2 * k, g->of_past, 2 * k, f, to->made);
    for (int64_t j = 0; j < length * f; j += 16)
        store(to->places + j, _mm512_loadu_ps(to->made + j));
    low_product(length, to->places, f, g->mix, f, g->attention, to->mixed);
}

INLINE bf16 rounded(float x) {
    bf16 some[16];
    store(some, all(x));
    return some[0];
}

static void low_read_rows(void *given, int64_t direction, int64_t first, int64_t rows) {
    low_reading *g = given;
    const int64_t h = g->channels, m = g->memory_channels, a = g->attention;
    const int64_t symbols = g->symbols;
    (void)direction;
    scratch own;
    if (!reserve(&own, rows * (8 * h + m + a + 2 * symbols) + symbols + places_room(g))) {
        g->failed = 1;
        return;
    }
    low_places places = find_room(g, &own);
    const int64_t padded = symbols + g->width - 1, half = g->width / 2;
    float *last = piece(&own, rows * symbols), *total = piece(&own, rows * symbols);
    if (g->width)
        for (int64_t i = 0; i < rows; i++) last[i * symbols] = 1.0f;
    float *of_context = piece(&own, rows * 3 * h), *of_state = piece(&own, rows * 3 * h);
    float *state = piece(&own, rows * h), *query = piece(&own, rows * a);
    bf16 *shown = (bf16 *)piece(&own, rows * h), *context = (bf16 *)piece(&own, rows * m);
    float *logits = piece(&own, symbols);
    for (int64_t step = 0; step < g->steps; step++) {
        low_product(rows, context, m, g->of_context, m, 3 * h, of_context);
        low_product(rows, shown, h, g->of_state, h, 3 * h, of_state);
        for (int64_t i = 0; i < rows; i++) {
            const int64_t at = (first + i) * g->steps + step;
            for (int64_t j = 0; j < h; j += 16) {
                const wide next =
                    low_cell(h, g->inputs + at * 3 * h + j, of_context + i * 3 * h + j,
                             of_state + i * 3 * h + j, g->state_bias + j, state + i * h + j,
                             g->added + at * h + j, g->gates + at * 3 * h + j);
                _mm512_storeu_ps(state + i * h + j, next);
                store(shown + i * h + j, next);
            }
            memcpy(g->hidden + at * h, shown + i * h, 2 * h);
        }
        low_product(rows, shown, h, g->query, h, a, query);
        for (int64_t i = 0; i < rows; i++) {
            const int64_t item = first + i, at = item * g->steps + step;
            const int64_t length = g->lengths[item];
            float *mine = g->queries + at * a, *weights = g->weights + at * symbols;
            const bf16 *keys = g->keys + item * symbols * a;
            for (int64_t j = 0; j < a; j += 16)
                _mm512_storeu_ps(mine + j, _mm512_add_ps(_mm512_loadu_ps(query + i * a + j),
                                                         _mm512_loadu_ps(g->query_bias + j)));
            float *from = last + i * symbols, *sums_of = total + i * symbols;
            if (g->width) {
                bf16 *past = g->past + at * 2 * padded;
                memset(past, 0, 4 * padded);
                for (int64_t s = 0; s < symbols; s++) {
                    past[half + s] = rounded(from[s]);
                    past[padded + half + s] = rounded(sums_of[s]);
                }
                look_back(g, past, length, &places);
            }
            for (int64_t s = 0; s < length; s++) {
                wide sum = _mm512_setzero_ps();
                for (int64_t j = 0; j < a; j += 16) {
                    wide x = _mm512_add_ps(load(keys + s * a + j), _mm512_loadu_ps(mine + j));
                    if (g->width)
                        x = _mm512_add_ps(x, _mm512_loadu_ps(places.mixed + s * a + j));
                    sum = _mm512_fmadd_ps(logistic_of_many(x), _mm512_loadu_ps(g->energy + j), sum);
                }
                logits[s] = _mm512_reduce_add_ps(sum);
            }
            if (g->only_forward)
                for (int64_t s = 0; s < length; s++) {
                    const float reach = reach_of(from, s);
                    logits[s] += reach <= 0.0f ? -INFINITY : logf(reach < LEAST ? LEAST : reach);
                }
            softmax(length, logits, weights);
            memset(weights + length, 0, 4 * (symbols - length));
            memcpy(from, weights, 4 * symbols);
            add(symbols, sums_of, weights);
            for (int64_t j = 0; j < m; j += 64) {
                const int64_t count = m - j < 64 ? (m - j) / 16 : 4;
                const bf16 *memory = g->memory + item * symbols * m + j;
                wide sums[4] = {all(0.0f), all(0.0f), all(0.0f), all(0.0f)};
                for (int64_t s = 0; s < length; s++, memory += m)
                    for (int64_t k = 0; k < count; k++)
                        sums[k] = _mm512_fmadd_ps(all(weights[s]), load(memory + 16 * k), sums[k]);
                for (int64_t k = 0; k < count; k++) store(context + i * m + j + 16 * k, sums[k]);
            }
            memcpy(g->context + at * m, context + i * m, 2 * m);
        }
    }
    free(own.block);
}

/* What products over symbols read, in pairs of them. */
typedef struct {
    bf16 *rows, *pairs; /* of sigmoids (S, A); (A / 32, S / 2, 32, 2) */
    float *d_made;      /* (S, F) */
    bf16 *d_rows, *d_pairs; /* the same in bfloat16, and in pairs */
    bf16 *past, *across; /* (2, S + K - 1), and a zero behind both; (F, S) */
    float *d_seen;      /* (S, 2 K), each row whole panels */
} low_pairs;

INLINE int64_t whole(int64_t n, int64_t of) { return (n + of - 1) / of * of; }

static int64_t pairs_room(const low_reading *g) {
    const int64_t s = whole(g->symbols, 2), f = whole(g->filters, LOW_PANEL);
    if (!g->width) return 0;
    return s * (whole(g->attention, LOW_PANEL) + 2 * f + g->filters +
                whole(2 * g->width, LOW_PANEL)) + g->symbols + g->width;
}

static low_pairs find_pairs(const low_reading *g, scratch *own) {
    const int64_t s = whole(g->symbols, 2), f = whole(g->filters, LOW_PANEL);
    const int64_t a = whole(g->attention, LOW_PANEL);
    if (!g->width) return (low_pairs){0};
    return (low_pairs){(bf16 *)piece(own, s * a / 2), (bf16 *)piece(own, s * a / 2),
                       piece(own, s * f), (bf16 *)piece(own, s * f / 2),
                       (bf16 *)piece(own, s * f / 2),
                       (bf16 *)piece(own, g->symbols + g->width),
                       (bf16 *)piece(own, s * g->filters),
                       piece(own, s * whole(2 * g->width, LOW_PANEL))};
}

/* Two rows of 16 columns, from column j on, into panels of pairs. */
INLINE void store_pair(bf16 *pairs, int64_t count, int64_t s, int64_t j, wide first, wide second) {
    const __m512i low_half = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(first));
    const __m512i high_half = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(second));
    bf16 *to = pairs + j / LOW_PANEL * count * LOW_PANEL + s * LOW_PANEL + j % LOW_PANEL * 2;
    _mm512_storeu_si512(to, _mm512_or_si512(low_half, _mm512_slli_epi32(high_half, 16)));
}

/* 16 attention channels, from j on, of an item's step back: their sums over symbols; and of each
 * symbol, if there are filters, what comes to the sigmoid's sum.
 */
INLINE void low_open_back(const int placed, int64_t length, const bf16 *keys, int64_t a, int64_t j,
                          const float *query, const float *mixed, const float *d_logits,
                          float *d_keys, wide *d_query, wide *d_energy, const low_pairs *to) {
    const wide own = _mm512_loadu_ps(query + j);
    wide queries = _mm512_setzero_ps(), energies = queries, before = queries;
    for (int64_t s = 0; s < length; s++) {
        wide x = _mm512_add_ps(load(keys + s * a + j), own);
        if (placed) x = _mm512_add_ps(x, _mm512_loadu_ps(mixed + s * a + j));
        const wide e = logistic_of_many(x), of = _mm512_mul_ps(all(d_logits[s]), e);
        const wide inner = _mm512_fnmadd_ps(of, e, of);
        energies = _mm512_add_ps(energies, of);
        queries = _mm512_add_ps(queries, inner);
        _mm512_storeu_ps(d_keys + s * a + j,
                         _mm512_add_ps(_mm512_loadu_ps(d_keys + s * a + j), inner));
        if (placed) {
            store(to->rows + s * a + j, inner);
            if (s % 2)
                store_pair(to->pairs, whole(length, 2), s - 1, j, before, inner);
            else if (s + 1 == length)
                store_pair(to->pairs, whole(length, 2), s, j, inner, _mm512_setzero_ps());
            before = inner;
        }
    }
    *d_query = queries;
    *d_energy = energies;
}

/* Back through the filters: into their gradients, and of the past seen (S, 2 K whole panels). */
static void look_back_back(const low_reading *g, int64_t item, const bf16 *past, int64_t length,
                           const low_places *from, const low_pairs *by) {
    const int64_t k = 2 * g->width, f = g->filters, a = g->attention, even = whole(length, 2);
    const int64_t padded = g->symbols + g->width - 1;
    memcpy(by->past, past, 2 * padded);
    memcpy(by->past + padded + 1, past + padded, 2 * padded);
    for (int64_t i = 0; i < f; i++)
        for (int64_t s = 0; s < even; s++)
            by->across[i * even + s] = s < length ? from->places[s * f + i] : 0;
    low_product_more(f, by->across, even, by->pairs, even, a, g->d_mix + item * f * a);
    low_product(length, by->rows, a, g->mix_back, a, f, by->d_made);
    for (int64_t s = 0; s < length; s += 2)
        for (int64_t j = 0; j < f; j += 16) {
            const wide first = _mm512_loadu_ps(by->d_made + s * f + j);
            const wide second = s + 1 < length ? _mm512_loadu_ps(by->d_made + (s + 1) * f + j)
                                               : _mm512_setzero_ps();
            store(by->d_rows + s * f + j, first);
            if (s + 1 < length) store(by->d_rows + (s + 1) * f + j, second);
            store_pair(by->d_pairs, even, s, j, first, second);
        }
    /* What a filter's weight has seen of all symbols lies in the past as it is. */
    float *d_past = g->d_past + item * k * f;
    low_product_more(g->width, by->past, 1, by->d_pairs, even, f, d_past);
    low_product_more(g->width, by->past + padded + 1, 1, by->d_pairs, even, f,
                     d_past + g->width * f);
    low_product(length, by->d_rows, f, g->past_back, f, whole(k, LOW_PANEL), by->d_seen);
}

static void low_read_back_rows(void *given, int64_t direction, int64_t first, int64_t rows) {
    low_reading *g = given;
    const int64_t h = g->channels, m = g->memory_channels, a = g->attention;
    const int64_t symbols = g->symbols;
    (void)direction;
    scratch own;
    const int64_t padded = symbols + g->width - 1, half = g->width / 2;
    if (!reserve(&own, rows * (7 * h + m + a + 2 * symbols) + symbols + m + places_room(g) +
                           pairs_room(g) + 2 * (padded + 1))) {
        g->failed = 1;
        return;
    }
    low_places places = find_room(g, &own);
    const low_pairs pairs = find_pairs(g, &own);
    float *d_last = piece(&own, rows * symbols), *d_total = piece(&own, rows * symbols);
    float *d_past = piece(&own, 2 * (padded + 1));
    float *d_h = piece(&own, rows * h), *keep = piece(&own, rows * h);
    float *of_query = piece(&own, rows * h), *d_c = piece(&own, rows * m);
    float *d_logits = piece(&own, symbols), *d_context = piece(&own, m);
    bf16 *d_queries = (bf16 *)piece(&own, rows * a);
    bf16 *of_state = (bf16 *)piece(&own, rows * 2 * h);
    bf16 *of_gates = (bf16 *)piece(&own, rows * 2 * h);
    for (int64_t step = g->steps - 1; step >= 0; step--) {
        for (int64_t i = 0; i < rows; i++) {
            const int64_t item = first + i, at = item * g->steps + step;
            const int64_t length = g->lengths[item];
            const float *weights = g->weights + at * symbols;
            for (int64_t j = 0; j < m; j += 16) {
                const wide d = _mm512_add_ps(load(g->d_context + at * m + j),
                                             _mm512_loadu_ps(d_c + i * m + j));
                _mm512_storeu_ps(d_context + j, d);
                store(g->d_contexts + at * m + j, d);
            }
            float *mine = d_last + i * symbols, *sums = d_total + i * symbols, mean = 0.0f;
            for (int64_t s = 0; s < length; s++) {
                const bf16 *memory = g->memory + (item * symbols + s) * m;
                wide sum = _mm512_setzero_ps();
                for (int64_t j = 0; j < m; j += 16)
                    sum = _mm512_fmadd_ps(load(memory + j), _mm512_loadu_ps(d_context + j), sum);
                d_logits[s] = _mm512_reduce_add_ps(sum) + g->d_weights[at * symbols + s];
                d_logits[s] += mine[s] + sums[s];
                mean += d_logits[s] * weights[s];
            }
            for (int64_t s = 0; s < length; s++) d_logits[s] = weights[s] * (d_logits[s] - mean);
            memset(mine, 0, 4 * symbols);
            if (g->only_forward && step) {
                const float *before = weights - symbols;
                for (int64_t s = 0; s < length; s++) {
                    const float reach = reach_of(before, s);
                    const float one = reach >= LEAST ? d_logits[s] / reach : 0.0f;
                    mine[s] += one;
                    if (s) mine[s - 1] += one;
                }
            }
            if (g->width) look_back(g, g->past + at * 2 * padded, length, &places);
            for (int64_t j = 0; j < a; j += 16) {
                wide d_query, d_energy;
                const bf16 *keys = g->keys + item * symbols * a;
                float *d_keys = g->d_keys + item * symbols * a, *energy = g->d_energy + item * a + j;
                if (g->width)
                    low_open_back(1, length, keys, a, j, g->queries + at * a, places.mixed,
                                  d_logits, d_keys, &d_query, &d_energy, &pairs);
                else
                    low_open_back(0, length, keys, a, j, g->queries + at * a, NULL, d_logits,
                                  d_keys, &d_query, &d_energy, NULL);
                _mm512_storeu_ps(energy, _mm512_add_ps(_mm512_loadu_ps(energy), d_energy));
                store(d_queries + i * a + j, _mm512_mul_ps(d_query, _mm512_loadu_ps(g->energy + j)));
            }
            if (g->width) {
                const int64_t wide_row = whole(2 * g->width, LOW_PANEL);
                look_back_back(g, item, g->past + at * 2 * padded, length, &places, &pairs);
                memset(d_past, 0, 4 * 2 * padded);
                for (int64_t s = 0; s < length; s++) {
                    const float *d_seen = pairs.d_seen + s * wide_row;
                    add(g->width, d_past + s, d_seen);
                    add(g->width, d_past + padded + s, d_seen + g->width);
                }
                add(symbols, mine, d_past + half);
                add(symbols, sums, d_past + padded + half);
            }
            memcpy(g->d_queries + at * a, d_queries + i * a, 2 * a);
        }
        low_product(rows, d_queries, a, g->query, a, h, of_query);
        for (int64_t i = 0; i < rows; i++) {
            const int64_t at = (first + i) * g->steps + step;
            for (int64_t j = 0; j < h; j += 16) {
                wide d = _mm512_add_ps(load(g->d_hidden + at * h + j),
                                       _mm512_loadu_ps(d_h + i * h + j));
                d = _mm512_add_ps(d, _mm512_loadu_ps(of_query + i * h + j));
                const wide last = step ? load(g->hidden + (at - 1) * h + j) : all(0.0f);
                const wide kept = low_cell_back(
                    h, d, g->gates + at * 3 * h + j, g->added + at * h + j, last,
                    of_state + i * 3 * h + j, of_gates + i * 3 * h + j,
                    g->d_bias + (first + i) * 4 * h + j);
                _mm512_storeu_ps(keep + i * h + j, kept);
            }
            memcpy(g->of_state_rows + at * 3 * h, of_state + i * 3 * h, 6 * h);
            memcpy(g->of_gates + at * 3 * h, of_gates + i * 3 * h, 6 * h);
        }
        low_product(rows, of_state, 3 * h, g->of_state, 3 * h, h, d_h);
        add(rows * h, d_h, keep);
        low_product(rows, of_gates, 3 * h, g->of_context, 3 * h, m, d_c);
    }
    free(own.block);
}

int low_read_forward(low_reading *g, int64_t threads) {
    share(low_read_rows, g, 1, g->items, 1, threads);
    return !g->failed;
}

int low_read_backward(low_reading *g, int64_t threads) {
    share(low_read_back_rows, g, 1, g->items, 1, threads);
    return !g->failed;
}

/* Of the structures, for who fills them in from elsewhere. */
int64_t low_reading_size(void) { return sizeof(low_reading); }
int64_t dropout_size(void) { return sizeof(dropout); }
int64_t distance_size(void) { return sizeof(distance); }
int64_t norm_size(void) { return sizeof(norm); }
int64_t highway_size(void) { return sizeof(highway); }
int64_t low_gru_size(void) { return sizeof(low_gru); }

#else

int64_t low(void) { return 0; }

#endif
