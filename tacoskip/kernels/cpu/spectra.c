/* Waves to magnitudes, and magnitudes to waves by Griffin-Lim, LANES frames at a time.
 *
 * A group of LANES frames is taken from its samples to its spectrum, and back, without leaving the
 * cache; what goes through memory is what must. Groups know nothing of one another within a step,
 * and add up in one order: the number of threads changes no bit.
 *
 * T frames, F = n / 2 + 1 bins, W samples in a window, N in a wave, L in a buffer of frames.
 */

#include <math.h>
#include <string.h>

#include "common.h"
#include "elementwise.h"

#define REAL float
#define WHOLE int32_t
#define WIDE LANES
#define NAME(x) single_##x
#include "fft.h"
#undef REAL
#undef WHOLE
#undef WIDE
#undef NAME

#define REAL double
#define WHOLE int64_t
#define WIDE (LANES / 2)
#define NAME(x) double_##x
#include "fft.h"

typedef float half_vector __attribute__((vector_size(2 * LANES), aligned(4), may_alias));

/* ---- plan ---- */

int64_t lanes(void) { return LANES; }

/* Bins in the order that `forward` leaves them in. */
static void ordered(int32_t *bins, int64_t length, int64_t first, int64_t step) {
    const int64_t parts = length < 4 ? length : 4;
    if (length == 1) *bins = (int32_t)first;
    if (length == 1) return;
    for (int64_t i = 0; i < parts; i++)
        ordered(bins + i * (length / parts), length / parts, first + i * step, parts * step);
}

/* Of n samples, a power of two from 64: turns (n,) of the passes; and pairs of bins k and M - k, in
 * the order in which they are met: where both are, and k (M / 2 - 1, 3), and their turns
 * (M / 2 - 1, 2). Last among the pairs, where bin M / 2 is. 0 where there was no memory.
 */
int plan(int64_t n, double *turns, int32_t *pairs, double *pair_turns) {
    const int64_t length = n / 2;
    const double whole = 8.0 * atan(1.0);
    for (int64_t part = length; part > 4; part /= 4)
        for (int64_t j = 0; j < part / 4; j++)
            for (int i = 1; i < 4; i++) {
                *turns++ = cos(whole * (double)(i * j) / (double)part);
                *turns++ = -sin(whole * (double)(i * j) / (double)part);
            }
    int32_t *bins = malloc(8 * length), *places = bins + length;
    if (!bins) return 0;
    ordered(bins, length, 0, 1);
    for (int64_t i = 0; i < length; i++) places[bins[i]] = (int32_t)i;
    for (int64_t i = 1; i < length; i++) {
        const int64_t k = bins[i], other = places[length - k];
        if (other <= i) continue;
        *pairs++ = (int32_t)i, *pairs++ = (int32_t)other, *pairs++ = (int32_t)k;
        *pair_turns++ = cos(whole * (double)k / (double)n);
        *pair_turns++ = -sin(whole * (double)k / (double)n);
    }
    *pairs = places[length / 2];
    free(bins);
    return 1;
}

/* ---- elementwise ---- */

/* cos and sin: off the nearest half turn by their series (Taylor). */
INLINE void cosine_and_sine(vector x, vector *c, vector *s) {
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to a whole number */
    const vector shifted = x * 0.318309886f + magic, n = shifted - magic;
    /* pi in three parts, of which the first two times n are exact. */
    vector r = x - n * 3.140625f;
    r = r - n * 9.67502594e-4f;
    r = r - n * 1.50995799e-7f;
    const vector r2 = r * r;
    vector p = r2 * -2.50521084e-8f + 2.75573192e-6f;
    p = p * r2 - 1.98412698e-4f;
    p = p * r2 + 8.33333333e-3f;
    p = p * r2 - 0.166666667f;
    vector q = r2 * 2.08767570e-9f - 2.75573192e-7f;
    q = q * r2 + 2.48015873e-5f;
    q = q * r2 - 1.38888889e-3f;
    q = q * r2 + 4.16666667e-2f;
    q = q * r2 - 0.5f;
    const numbers sign = (numbers)shifted << 31;
    *s = (vector)((numbers)(r + r * r2 * p) ^ sign);
    *c = (vector)((numbers)(1.0f + r2 * q) ^ sign);
}

/* ---- rows and lanes ---- */

/* Rows (count, length), `stride` apart, to columns (length, LANES); what is missing is zero. */
static void taken(const float *rows, int64_t stride, int64_t count, int64_t length,
                  vector *columns) {
    for (int64_t k = 0; k < length; k += LANES) {
        const int64_t rest = length - k < LANES ? length - k : LANES;
        vector block[LANES] = {{0}};
        for (int64_t i = 0; i < count; i++) {
            if (rest == LANES)
                block[i] = *(const vector *)(rows + i * stride + k);
            else
                memcpy(&block[i], rows + i * stride + k, 4 * rest);
        }
        single_transpose(block);
        for (int64_t i = 0; i < rest; i++) columns[k + i] = block[i];
    }
}

/* And back. */
static void given_back(const vector *columns, int64_t length, float *rows, int64_t stride,
                       int64_t count) {
    for (int64_t k = 0; k < length; k += LANES) {
        const int64_t rest = length - k < LANES ? length - k : LANES;
        vector block[LANES] = {{0}};
        for (int64_t i = 0; i < rest; i++) block[i] = columns[k + i];
        single_transpose(block);
        for (int64_t i = 0; i < count; i++) {
            if (rest == LANES)
                *(vector *)(rows + i * stride + k) = block[i];
            else
                memcpy(rows + i * stride + k, &block[i], 4 * rest);
        }
    }
}

static int64_t rounded(int64_t x, int64_t to) { return (x + to - 1) / to * to; }

/* ---- Griffin-Lim ---- */

/* magnitude, phase (T, F); analysis, synthesis (W rounded up to LANES): windows, halved and over n;
 * scale, buffer (L).
 */
typedef struct {
    int64_t n, hop, window, frames, length, iterations;
    const float *magnitude, *phase, *analysis, *synthesis, *scale, *turns, *pair_turns;
    const int32_t *pairs;
    float *buffer;
    float pull;
    /* From here on its own. A group's target and last spectrum lie as pairs are met, then bins 0
     * and M, then bin M / 2; `sums` are each group's frames, overlapped, of this step and the last.
     */
    int64_t step, segment;
    float *target, *previous, *sums[2];
} projection;

/* Groups for which a thread is worth waking: a stream's pieces are done by one. */
#define LEAST 4

static int64_t groups(int64_t frames) { return (frames + LANES - 1) / LANES; }

/* The buffer's samples from `first`, of all groups that reach them. */
static void gather(const projection *g, const float *sums, int64_t first, int64_t count,
                   float *out) {
    const int64_t apart = LANES * g->hop, all = groups(g->frames);
    const int64_t known = g->length - first < count ? g->length - first : count;
    int64_t from = (first - g->segment) / apart, to = (first + count) / apart + 1;
    from = from < 0 ? 0 : from;
    to = to > all ? all : to;
    memset(out, 0, 4 * count);
    for (int64_t group = from; group < to; group++) {
        const float *sum = sums + group * g->segment;
        const int64_t shift = first - group * apart;
        const int64_t begin = shift < 0 ? -shift : 0;
        const int64_t end = g->segment - shift < known ? g->segment - shift : known;
        for (int64_t i = begin; i < end; i++) out[i] += sum[shift + i];
    }
    for (int64_t i = 0; i < known; i++) out[i] *= g->scale[first + i];
}

/* A step's new bin, in place: rebuilt - pull * previous, of the target's magnitude. */
INLINE void drawn(vector *bin, vector target, vector *previous, float pull) {
    const vector re = bin[0] - pull * previous[0], im = bin[1] - pull * previous[1];
    previous[0] = bin[0], previous[1] = bin[1];
    const vector gain = target * inverse_root(re * re + im * im + 1e-30f);
    bin[0] = re * gain, bin[1] = im * gain;
}

/* A group's spectrum in x, to that of the next step. */
INLINE void stepped(const projection *g, vector *x, const vector *target, vector *previous) {
    const int64_t half = g->n / 4;
    const int32_t *pair = g->pairs;
    const float *t = g->pair_turns, pull = g->pull;
    for (int64_t i = 1; i < half; i++, pair += 3, t += 2, target += 2, previous += 4) {
        vector here[2], there[2];
        vector *a = x + 2 * pair[0], *b = x + 2 * pair[1];
        single_bins(a, b, t[0], t[1], here, there);
        drawn(here, target[0], previous, pull);
        drawn(there, target[1], previous + 2, pull);
        single_numbers(here, there, t[0], t[1], a, b);
    }
    vector first[2] = {2.0f * (x[0] + x[1])}, last[2] = {2.0f * (x[0] - x[1])};
    vector *middle = x + 2 * *pair;
    middle[0] *= 2.0f, middle[1] *= -2.0f;
    drawn(first, target[0], previous, pull);
    drawn(last, target[1], previous + 2, pull);
    drawn(middle, target[2], previous + 4, pull);
    x[0] = first[0] + last[0], x[1] = first[0] - last[0];
    middle[0] *= 2.0f, middle[1] *= -2.0f;
}

/* A group's first spectrum, from its target and its phases (F, LANES). */
static void begun(const projection *g, vector *x, const vector *target, const vector *phase) {
    const int64_t half = g->n / 4, last = g->n / 2;
    const int32_t *pair = g->pairs;
    const float *t = g->pair_turns;
    vector here[2], there[2];
    for (int64_t i = 1; i < half; i++, pair += 3, t += 2, target += 2) {
        cosine_and_sine(phase[pair[2]], here, here + 1);
        cosine_and_sine(phase[last - pair[2]], there, there + 1);
        for (int j = 0; j < 2; j++) here[j] *= target[0], there[j] *= target[1];
        single_numbers(here, there, t[0], t[1], x + 2 * pair[0], x + 2 * pair[1]);
    }
    cosine_and_sine(phase[0], here, here + 1);
    cosine_and_sine(phase[last], there, there + 1);
    here[0] *= target[0], there[0] *= target[1];
    x[0] = here[0] + there[0], x[1] = here[0] - there[0];
    cosine_and_sine(phase[half], here, here + 1);
    x[2 * *pair] = 2.0f * target[2] * here[0], x[2 * *pair + 1] = -2.0f * target[2] * here[1];
}

/* Magnitudes (F, LANES) as pairs are met; returns which frames are not silent. */
static void lie(const projection *g, const vector *magnitude, vector *target) {
    const int64_t half = g->n / 4, last = g->n / 2;
    for (int64_t i = 0; i < half - 1; i++) {
        *target++ = magnitude[g->pairs[3 * i + 2]];
        *target++ = magnitude[last - g->pairs[3 * i + 2]];
    }
    target[0] = magnitude[0], target[1] = magnitude[last], target[2] = magnitude[half];
}

/* The frames of a group's numbers, overlapped. */
static void overlapped(const projection *g, const vector *x, float *sum) {
    memset(sum, 0, 4 * g->segment);
    for (int64_t n = 0; n < rounded(g->window, LANES); n += LANES) {
        vector rows[LANES];
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++) rows[i] = x[n + i] * g->synthesis[n + i];
        single_transpose(rows);
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++) *(vector *)(sum + i * g->hop + n) += rows[i];
    }
}

WORKER(project_groups, count) {
    projection *g = given;
    const int64_t bins = g->n / 2 + 1, padded = rounded(g->window, LANES);
    vector *x = (vector *)own, *columns = x + g->n, *phases = columns + bins;
    float *samples = (float *)(phases + bins);
    for (int64_t group = first; group < first + count; group++) {
        vector *target = (vector *)g->target + group * bins;
        vector *previous = (vector *)g->previous + 2 * group * bins;
        const int64_t frame = group * LANES;
        const int64_t left = g->frames - frame < LANES ? g->frames - frame : LANES;
        if (g->step < 0) {
            taken(g->magnitude + frame * bins, bins, left, bins, columns);
            taken(g->phase + frame * bins, bins, left, bins, phases);
            lie(g, columns, target);
            begun(g, x, target, phases);
            memset(previous, 0, 8 * LANES * bins);
        } else {
            gather(g, g->sums[g->step % 2], frame * g->hop, g->segment, samples);
            single_take(samples, g->hop, padded, g->analysis, x);
            single_forward(x, g->n / 2, padded / 2, g->turns);
            stepped(g, x, target, previous);
        }
        single_backward(x, g->n / 2, padded / 2, g->turns);
        overlapped(g, x, g->sums[(g->step + 1) % 2] + group * g->segment);
    }
}

static int step(projection *g, int64_t threads) {
    const int64_t more = LANES * (g->n + g->n + 2) + rounded(g->segment, LANES);
    return share(project_groups, g, 1, groups(g->frames), LEAST, threads, 0, more);
}

/* Run Griffin-Lim into `buffer`; 0 where there was no memory. */
int project(projection *g, int64_t threads) {
    const int64_t all = groups(g->frames), bins = g->n / 2 + 1;
    g->segment = (LANES - 1) * g->hop + rounded(g->window, LANES);
    const int64_t spectrum = all * bins * LANES, sums = rounded(all * g->segment, LANES);
    float *block = room(4 * (3 * spectrum + 2 * sums));
    if (!block) return 0;
    g->target = block;
    g->previous = g->target + spectrum;
    g->sums[0] = g->previous + 2 * spectrum;
    g->sums[1] = g->sums[0] + sums;
    g->step = -1;
    int done = step(g, threads);
    for (g->step = 0; done && g->step < g->iterations; g->step++) done = step(g, threads);
    if (done) gather(g, g->sums[g->step % 2], 0, g->length, g->buffer);
    free(block);
    return done;
}

int64_t projection_size(void) { return sizeof(projection); }

/* ---- features ---- */

/* waves (rows, N); window (W rounded up to LANES), halved; linear (rows, T, F), mel (rows, T, M):
 * log10 of magnitudes, floored. Bands meet at corners: between corner i and i + 1 lie the bins from corners[i], which fade out of band i - 1 and into band i, with
 * weights (F, 2). lead: samples of the first frame that lie before the wave.
 */
typedef struct {
    int64_t n, hop, window, rows, frames, samples, lead, bands;
    const float *waves;
    const double *analysis, *turns, *pair_turns;
    const int32_t *pairs, *corners;
    const float *weights;
    float *linear, *mel;
    double preemphasis;
    float floor;
} features;

/* Samples of the buffer from `first` on, pre-emphasised, silent outside the wave. */
static void emphasised(const features *g, const float *wave, int64_t first, int64_t count,
                       double *out) {
    const int64_t shift = first - g->lead;
    int64_t begin = shift < 0 ? -shift : 0, end = g->samples - shift;
    begin = begin < count ? begin : count;
    end = end < count ? end : count;
    end = end > begin ? end : begin;
    for (int64_t i = 0; i < begin; i++) out[i] = 0;
    if (begin < end && shift + begin == 0) out[begin++] = wave[0];
    for (int64_t i = begin; i < end; i++)
        out[i] = wave[shift + i] - g->preemphasis * wave[shift + i - 1];
    for (int64_t i = end; i < count; i++) out[i] = 0;
}

INLINE half_vector power(const double_lanes *bin) {
    return __builtin_convertvector(bin[0] * bin[0] + bin[1] * bin[1], half_vector);
}

/* Powers of half a group of frames, into half of each of F vectors. */
static void powers(const features *g, double_lanes *x, float *out) {
    const int64_t half = g->n / 4, last = g->n / 2;
    const int32_t *pair = g->pairs;
    const double *t = g->pair_turns;
    for (int64_t i = 1; i < half; i++, pair += 3, t += 2) {
        double_lanes here[2], there[2];
        double_bins(x + 2 * pair[0], x + 2 * pair[1], t[0], t[1], here, there);
        *(half_vector *)(out + LANES * pair[2]) = power(here);
        *(half_vector *)(out + LANES * (last - pair[2])) = power(there);
    }
    const double_lanes first_bin[2] = {2.0 * (x[0] + x[1])}, last_bin[2] = {2.0 * (x[0] - x[1])};
    const double_lanes middle[2] = {2.0 * x[2 * *pair], 2.0 * x[2 * *pair + 1]};
    *(half_vector *)out = power(first_bin);
    *(half_vector *)(out + LANES * last) = power(last_bin);
    *(half_vector *)(out + LANES * half) = power(middle);
}

WORKER(feature_groups, count) {
    features *g = given;
    const int64_t bins = g->n / 2 + 1, padded = rounded(g->window, LANES);
    const int64_t reach = (LANES / 2 - 1) * g->hop + padded, per_row = groups(g->frames);
    double_lanes *x = (double_lanes *)own;
    vector *columns = (vector *)(x + g->n), *bands = columns + bins;
    double *samples = (double *)(bands + g->bands + 2);
    const vector lowest = (vector){0} + g->floor, lowest_power = lowest * lowest;
    for (int64_t i = first; i < first + count; i++) {
        const int64_t row = i / per_row, frame = i % per_row * LANES;
        const int64_t left = g->frames - frame < LANES ? g->frames - frame : LANES;
        for (int h = 0; h < 2; h++) {
            const int64_t at = (frame + h * LANES / 2) * g->hop;
            emphasised(g, g->waves + row * g->samples, at, reach, samples);
            double_take(samples, g->hop, padded, g->analysis, x);
            double_forward(x, g->n / 2, padded / 2, g->turns);
            powers(g, x, (float *)columns + h * LANES / 2);
        }
        float *linear = g->linear + (row * g->frames + frame) * bins;
        bands[0] = (vector){0};
        for (int64_t band = 0; band <= g->bands; band++) {
            vector out = bands[band], in = {0};
            for (int64_t k = g->corners[band]; k < g->corners[band + 1]; k++) {
                const vector magnitude = columns[k] * inverse_root(columns[k]);
                out += g->weights[2 * k] * magnitude;
                in += g->weights[2 * k + 1] * magnitude;
            }
            bands[band] = out, bands[band + 1] = in;
        }
        for (int64_t band = 1; band <= g->bands; band++)
            bands[band] = logarithm(chosen(bands[band] < lowest, lowest, bands[band]));
        for (int64_t k = 0; k < bins; k++)
            columns[k] = 0.5f * logarithm(chosen(columns[k] < lowest_power, lowest_power, columns[k]));
        given_back(columns, bins, linear, bins, left);
        given_back(bands + 1, g->bands, g->mel + (row * g->frames + frame) * g->bands, g->bands,
                   left);
    }
}

/* Log10 magnitudes and mel; 0 where there was no memory. */
int analyse(features *g, int64_t threads) {
    const int64_t reach = (LANES / 2 - 1) * g->hop + rounded(g->window, LANES);
    const int64_t more = LANES * (g->n + g->n / 2 + 1 + g->bands + 2) + 2 * reach;
    return share(feature_groups, g, 1, g->rows * groups(g->frames), LEAST, threads, 0, more);
}

int64_t features_size(void) { return sizeof(features); }
