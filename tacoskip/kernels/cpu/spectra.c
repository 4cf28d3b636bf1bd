/* Waves to magnitudes, and magnitudes to waves by Griffin-Lim, LANES frames at a time.
 *
 * A group of LANES frames is taken from its samples to its spectrum, and back, without leaving the
 * cache; what goes through memory is what must. Groups know nothing of one another within a step,
 * and add up in one order: the number of threads changes no bit.
 *
 * T frames, F = n / 2 + 1 bins, W samples in a window, N in a wave, L in a buffer of frames.
 */

#include "vectors.h"

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

int64_t lanes(void) { return LANES; }

/* ---- rows and lanes ---- */

/* Rows (count or LANES, length), `stride` apart, to columns (length, LANES); what is missing is zero.
 * length is at least LANES.
 */
static void taken(const float *rows, int64_t stride, int64_t count, int64_t length,
                  vector *columns) {
    for (int64_t at = 0; at < length; at += LANES) {
        const int64_t k = at < length - LANES ? at : length - LANES;
        vector block[LANES] = {{0}};
        for (int64_t i = 0; i < count && i < LANES; i++)
            block[i] = *(const vector *)(rows + i * stride + k);
        single_transpose(block);
        memcpy(columns + k, block, sizeof(block));
    }
}

/* And back. */
static void given_back(const vector *columns, int64_t length, float *rows, int64_t stride,
                       int64_t count) {
    for (int64_t at = 0; at < length; at += LANES) {
        const int64_t k = at < length - LANES ? at : length - LANES;
        vector block[LANES];
        memcpy(block, columns + k, sizeof(block));
        single_transpose(block);
        for (int64_t i = 0; i < count && i < LANES; i++)
            *(vector *)(rows + i * stride + k) = block[i];
    }
}

/* ---- Griffin-Lim ---- */

/* magnitude, cosine and sine of the first phase (T, F); analysis, synthesis (W rounded up to LANES): windows, halved and over n;
 * scale, buffer (L).
 */
typedef struct {
    int64_t n, hop, window, frames, length, iterations;
    const float *magnitude, *cosine, *sine, *analysis, *synthesis, *scale, *turns, *pair_turns;
    const int32_t *pairs;
    float *buffer;
    float pull;
    /* From here on its own: a group's magnitudes (F, LANES); its last spectrum, as pairs are met,
     * then bins 0, M and M / 2; each group's frames, overlapped, of this step and the last.
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

/* A bin of the first step: the direction that it begins with. */
INLINE void begun(vector *bin, const vector *cosine, const vector *sine, int64_t k) {
    if (cosine) bin[0] = cosine[k], bin[1] = sine[k];
}

/* A group's spectrum in x, to that of the next step; cosine, sine (F): see `begun`, or NULL. */
INLINE void stepped(const projection *g, vector *x, const vector *target, vector *previous,
                    const vector *cosine, const vector *sine) {
    const int64_t half = g->n / 4, end = g->n / 2;
    const int32_t *pair = g->pairs;
    const float *t = g->pair_turns, pull = g->pull;
    for (int64_t i = 1; i < half; i++, pair += 3, t += 2, previous += 4) {
        const int64_t k = pair[2];
        vector here[2], there[2];
        vector *a = x + 2 * pair[0], *b = x + 2 * pair[1];
        single_bins(a, b, t[0], t[1], here, there);
        begun(here, cosine, sine, k), begun(there, cosine, sine, end - k);
        drawn(here, target[k], previous, pull);
        drawn(there, target[end - k], previous + 2, pull);
        single_numbers(here, there, t[0], t[1], a, b);
    }
    vector first[2] = {2.0f * (x[0] + x[1])}, last[2] = {2.0f * (x[0] - x[1])};
    vector *middle = x + 2 * *pair;
    middle[0] *= 2.0f, middle[1] *= -2.0f;
    begun(first, cosine, sine, 0), begun(last, cosine, sine, end), begun(middle, cosine, sine, half);
    drawn(first, target[0], previous, pull);
    drawn(last, target[end], previous + 2, pull);
    drawn(middle, target[half], previous + 4, pull);
    x[0] = first[0] + last[0], x[1] = first[0] - last[0];
    middle[0] *= 2.0f, middle[1] *= -2.0f;
}

/* The frames of a group's numbers, overlapped. */
static void overlapped(const projection *g, const vector *x, float *sum) {
    memset(sum, 0, 4 * g->segment);
    for (int64_t n = 0; n < whole(g->window, LANES); n += LANES) {
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
    const int64_t bins = g->n / 2 + 1, padded = whole(g->window, LANES);
    vector *x = (vector *)own, *cosine = x + g->n, *sine = cosine + bins;
    float *samples = (float *)(sine + bins);
    for (int64_t group = first; group < first + count; group++) {
        vector *target = (vector *)g->target + group * bins;
        vector *previous = (vector *)g->previous + 2 * group * bins;
        if (g->step < 0) {
            const int64_t at = group * LANES * bins, left = g->frames - group * LANES;
            taken(g->magnitude + at, bins, left, bins, target);
            taken(g->cosine + at, bins, left, bins, cosine);
            taken(g->sine + at, bins, left, bins, sine);
            memset(previous, 0, 8 * LANES * bins);
            stepped(g, x, target, previous, cosine, sine);
            memset(previous, 0, 8 * LANES * bins);
        } else {
            gather(g, g->sums[g->step % 2], group * LANES * g->hop, g->segment, samples);
            single_take(samples, g->hop, padded, g->analysis, g->n, x);
            single_forward(x, g->n / 2, g->turns);
            stepped(g, x, target, previous, NULL, NULL);
        }
        single_backward(x, g->n / 2, g->turns);
        overlapped(g, x, g->sums[(g->step + 1) % 2] + group * g->segment);
    }
}

static int step(projection *g, int64_t threads) {
    const int64_t more = LANES * (g->n + g->n + 2) + whole(g->segment, LANES);
    return share(project_groups, g, 1, groups(g->frames), LEAST, threads, 0, more);
}

/* Run Griffin-Lim into `buffer`; 0 where there was no memory. */
int project(projection *g, int64_t threads) {
    const int64_t all = groups(g->frames), bins = g->n / 2 + 1;
    g->segment = (LANES - 1) * g->hop + whole(g->window, LANES);
    const int64_t spectrum = all * bins * LANES, sums = whole(all * g->segment, LANES);
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

/* ---- features ---- */

/* waves (rows, N), with room for whole groups of frames; window (W rounded up to LANES), halved;
 * linear (rows, T, F), mel (rows, T, M): log10 of magnitudes, floored. Bands meet at corners:
 * between corner i and i + 1 lie the bins from corners[i], which fade out of band i - 1 and into
 * band i, with weights (F, 2).
 */
typedef struct {
    int64_t n, hop, window, rows, frames, samples, bands;
    const double *waves, *analysis, *turns, *pair_turns;
    const int32_t *pairs, *corners;
    const float *weights;
    float *linear, *mel;
    float floor;
} features;

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
    const int64_t bins = g->n / 2 + 1, padded = whole(g->window, LANES);
    const int64_t per_row = groups(g->frames);
    double_lanes *x = (double_lanes *)own;
    vector *columns = (vector *)(x + g->n), *bands = columns + bins;
    const vector lowest = all(g->floor), lowest_power = lowest * lowest;
    for (int64_t i = first; i < first + count; i++) {
        const int64_t row = i / per_row, frame = i % per_row * LANES;
        const int64_t left = g->frames - frame < LANES ? g->frames - frame : LANES;
        for (int64_t h = 0; h < LANES; h += LANES / 2) {
            const double *samples = g->waves + row * g->samples + (frame + h) * g->hop;
            double_take(samples, g->hop, padded, g->analysis, g->n, x);
            double_forward(x, g->n / 2, g->turns);
            powers(g, x, (float *)columns + h);
        }
        float *linear = g->linear + (row * g->frames + frame) * bins;
        bands[0] = all(0.0f);
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
        float *mel = g->mel + (row * g->frames + frame) * g->bands;
        for (int64_t i = 0; i < left; i++)
            for (int64_t band = 1; band <= g->bands; band++) *mel++ = bands[band][i];
    }
}

/* Log10 magnitudes and mel; 0 where there was no memory. */
int analyse(features *g, int64_t threads) {
    const int64_t more = LANES * (g->n + g->n / 2 + 1 + g->bands + 2);
    return share(feature_groups, g, 1, g->rows * groups(g->frames), LEAST, threads, 0, more);
}
